// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl defaults`: what groups start as and why, and changing that for the next boot.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use anyhow::{bail, Context as _};
use clap::Subcommand;
use iommuctl_policy::DomainType;
use serde::Serialize;

use crate::commands::common::args::Global;
use crate::config::boot_loader::{change, others, words, Action, Added, BootDefault, Loader};
use crate::exit::{Exit, Failure};
use crate::kernel::procfs::Proc;
use crate::kernel::sysfs::Sysfs;
use crate::sys::trusted::{Content, Root};
use crate::terminal::output::Output;
use crate::terminal::style;

/// Arguments of `defaults`.
#[derive(Debug, clap::Args)]
pub struct DefaultsArgs {
    /// What to do; without anything, the defaults are shown
    #[command(subcommand)]
    pub command: Option<DefaultsCommand>,
}

/// What can be done about the kernel's defaults.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum DefaultsCommand {
    /// Change what every group starts as from the next boot on, through the distribution's own helper
    Set {
        /// What groups start as
        #[arg(value_name = "DEFAULT")]
        wanted: BootDefault,
        /// Say which files would be written and what would be run, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take back what set did
    Undo {
        /// Say which files would be written and what would be run, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// What `defaults` found.
#[derive(Debug, Serialize)]
pub struct DefaultsReport {
    /// What groups start as; `None` if neither command line nor configuration says.
    pub default_type: Option<DomainType>,
    /// The parameter or the configuration option that says so.
    pub default_source: Option<String>,
    /// What the kernel was built with, if that is readable.
    pub built_in: Option<String>,
    /// The parameters on the command line, and what each does.
    pub parameters: Vec<Parameter>,
    /// Whether firmware asks for protection from external devices (Intel); `None` if that is not known.
    pub platform_opt_in: Option<bool>,
    /// What writes the command line of the next boot; `None` if no helper that we know does.
    pub helper: Option<String>,
    /// The words that `set` added for the next boot; `None` if there are none, or if that is not known.
    pub next_boot: Option<String>,
}

/// A word on the kernel command line.
#[derive(Debug, Serialize)]
pub struct Parameter {
    pub word: String,
    pub meaning: &'static str,
}

/// What `defaults set` and `defaults undo` did.
#[derive(Debug, Serialize)]
pub struct ChangeReport {
    pub dry_run: bool,
    pub actions: Vec<String>,
}

/// Runs the command.
pub fn run(args: &DefaultsArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let root = global.roots.open_root()?;
    let proc = Proc::open(global.roots.proc_root.as_deref())?;
    match args.command {
        None => show(
            &root,
            &proc,
            &Sysfs::open(global.roots.sysfs_root.as_deref())?,
            output,
        ),
        Some(DefaultsCommand::Set { wanted, dry_run }) => {
            alter(&root, &proc, Some(wanted), dry_run, output)
        }
        Some(DefaultsCommand::Undo { dry_run }) => alter(&root, &proc, None, dry_run, output),
    }
}

fn show(root: &Root, proc: &Proc, sysfs: &Sysfs, output: &mut Output) -> anyhow::Result<Exit> {
    let kernel = proc.kernel();
    let (default_type, default_source) = kernel.default.map(|d| (d.domain_type, d.source)).unzip();
    let parameters = kernel.parameters.into_iter().map(|word| Parameter {
        meaning: meaning(&word),
        word,
    });
    let loader = Loader::find(root)?;
    let added = loader.as_ref().map(|l| l.added(root)).transpose()?;
    let report = DefaultsReport {
        default_type,
        default_source,
        built_in: kernel.built_in,
        parameters: parameters.collect(),
        platform_opt_in: sysfs.platform_opt_in(),
        helper: loader.map(|l| l.to_string()),
        next_boot: match added {
            Some(Added::Words(words)) => Some(words),
            Some(Added::Nothing | Added::Unknown) | None => None,
        },
    };
    output.report(&report, write)?;
    Ok(Exit::Done)
}

/// What a parameter does (`Documentation/admin-guide/kernel-parameters.txt`).
fn meaning(word: &str) -> &'static str {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    let has = |option| value.split(',').any(|v| v == option);
    match name {
        "iommu.passthrough" => "whether groups start as identity",
        "iommu.strict" => "whether translated groups start strict (1) or lazy (0)",
        "iommu" if has("pt") => "groups start as identity",
        "iommu" if has("nopt") => "groups start translated",
        "intel_iommu" | "amd_iommu" | "iommu" if has("off") => "switches the IOMMU off",
        "intel_iommu" if has("strict") => {
            "switches the IOMMU on or leaves it on, and starts strict"
        }
        "amd_iommu" if has("fullflush") => "starts strict",
        "intel_iommu" if has("on") => {
            "switches the IOMMU on, which says nothing about strict or lazy"
        }
        "iommu.forcedac" => "which addresses are used first; nothing about protection",
        _ => "something about the IOMMU other than its defaults",
    }
}

fn alter(
    root: &Root,
    proc: &Proc,
    wanted: Option<BootDefault>,
    dry_run: bool,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let Some(loader) = Loader::find(root)? else {
        let message = "nothing that we know writes the kernel command line here (update-grub with \
                       /etc/default/grub.d, grubby, or kernel-install with /etc/kernel/cmdline)";
        let by_hand =
            wanted.map(|w| format!("add `{}` to the kernel command line by hand", words(w)));
        let failure = Failure::new(Exit::Refused, message);
        return Err(failure.with_advice(by_hand.into_iter().collect()).into());
    };
    // grubby knows one value for each parameter: it would put ours in the place of theirs, and undo could not tell.
    let theirs = others(&proc.command_line()?);
    if loader == Loader::Grubby && !theirs.is_empty() {
        let theirs = theirs.join(" ");
        let message = format!("{theirs} is on the kernel command line, and not by us");
        let advice = format!("grubby --update-kernel=ALL --remove-args=\"{theirs}\" takes it off");
        return Err(Failure::new(Exit::Refused, message)
            .with_advice(vec![advice])
            .into());
    }
    let nothing_to_undo = wanted.is_none() && loader.added(root)? == Added::Nothing;
    let actions = match nothing_to_undo {
        true => Vec::new(),
        false => change(&loader, wanted),
    };
    if !dry_run {
        if !root.runs_programs() {
            let message = format!("{loader} is not run below another root");
            return Err(Failure::new(Exit::Refused, message).into());
        }
        perform(root, &actions)?;
    }
    let report = ChangeReport {
        dry_run,
        actions: actions.iter().map(ToString::to_string).collect(),
    };
    output.report(&report, write_change)?;
    Ok(Exit::Done)
}

/// Does it all, or puts the files back as they were.
fn perform(root: &Root, actions: &[Action]) -> anyhow::Result<()> {
    let mut undo = Vec::new();
    for action in actions {
        let done = one(root, action, &mut undo);
        let Err(error) = done else {
            continue;
        };
        for (folder, name, content) in undo.into_iter().rev() {
            put(root, folder, name, content).context("Failed to put a file back")?;
        }
        return Err(error.context("the files were put back as they were"));
    }
    Ok(())
}

/// A file and what was in it.
type Before = (&'static str, &'static str, Option<String>);

fn one(root: &Root, action: &Action, undo: &mut Vec<Before>) -> anyhow::Result<()> {
    match action {
        Action::Write { folder, name, text } => {
            undo.push((folder, name, read(root, folder, name)?));
            put(root, folder, name, Some(text.clone()))
        }
        Action::Remove { folder, name } => {
            undo.push((folder, name, read(root, folder, name)?));
            put(root, folder, name, None)
        }
        Action::Run { program, arguments } => {
            let program = root.display(program);
            // What it says is for people, and standard output is for our report.
            let status = Command::new(&program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(io::stderr())
                .status()
                .with_context(|| format!("Failed to run {program}"))?;
            if !status.success() {
                bail!("{program} failed ({status})");
            }
            Ok(())
        }
    }
}

fn read(root: &Root, folder: &str, name: &str) -> anyhow::Result<Option<String>> {
    Ok(match root.dir(folder)?.map(|f| f.read(name)).transpose()? {
        Some(Content::Text(text)) => Some(text),
        Some(Content::Masked | Content::Absent) | None => None,
    })
}

fn put(root: &Root, folder: &str, name: &str, content: Option<String>) -> anyhow::Result<()> {
    let place = root.dir(folder)?;
    let place = place.with_context(|| format!("/{folder} is not there any more"))?;
    match content {
        Some(text) => place.replace(name, text.as_bytes(), 0o644)?,
        None => place.remove(name)?,
    }
    Ok(())
}

/// Writes what groups start as, and why.
pub fn write(w: &mut dyn Write, report: &DefaultsReport) -> io::Result<()> {
    let default = match (&report.default_type, &report.default_source) {
        (Some(kind), Some(source)) => format!("{kind}, because of {source}"),
        _ => {
            "unknown: no parameter says, and the kernel's configuration is not readable".to_owned()
        }
    };
    field(w, "groups start as", &default)?;
    let built_in = report.built_in.as_deref();
    field(w, "built in", built_in.unwrap_or("not readable"))?;
    if report.parameters.is_empty() {
        field(w, "command line", "nothing about IOMMUs")?;
    }
    for parameter in &report.parameters {
        field(
            w,
            "command line",
            &format!("{}: {}", parameter.word, parameter.meaning),
        )?;
    }
    let opt_in = match report.platform_opt_in {
        Some(true) => "yes: the kernel protects against external devices even where the IOMMU is off otherwise",
        Some(false) => "no",
        None => "not known (only Intel firmware has one, and only root can read it)",
    };
    field(w, "platform opt-in", opt_in)?;
    let helper = match &report.helper {
        Some(helper) => format!("`iommuctl defaults set` goes through {helper}"),
        None => "no helper that we know writes the command line here".to_owned(),
    };
    match &report.next_boot {
        Some(words) => {
            field(
                w,
                "next boot",
                &format!("{words}, set by `iommuctl defaults set`"),
            )?;
            field(w, "", &helper)
        }
        None => field(w, "next boot", &helper),
    }
}

fn field(w: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    let head = style::HEADING;
    writeln!(w, "{head}{name:<15}{head:#}  {value}")
}

/// Writes what was done, or would be.
pub fn write_change(w: &mut dyn Write, report: &ChangeReport) -> io::Result<()> {
    if report.actions.is_empty() {
        return writeln!(
            w,
            "There is nothing to undo: nothing was set for the next boot."
        );
    }
    let head = match report.dry_run {
        true => "This would be done:",
        false => "Done. It counts from the next boot on:",
    };
    writeln!(w, "{head}")?;
    report.actions.iter().try_for_each(|a| writeln!(w, "  {a}"))
}
