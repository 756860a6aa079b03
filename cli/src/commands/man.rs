// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl man`: the man pages, from the definitions of the command line, and the others.

use std::path::Path;

use anyhow::Context as _;
use clap::builder::Resettable;

use crate::exit::Exit;

/// The pages that are about no command, which are written by hand.
const OTHERS: [(&str, &str); 4] = [
    (
        "iommu_live.4",
        include_str!("../../../packaging/man/iommu_live.4"),
    ),
    (
        "iommuctl-audit.5",
        include_str!("../../../packaging/man/iommuctl-audit.5"),
    ),
    (
        "iommuctl-policy.5",
        include_str!("../../../packaging/man/iommuctl-policy.5"),
    ),
    (
        "iommuctl-rebind.7",
        include_str!("../../../packaging/man/iommuctl-rebind.7"),
    ),
];

/// Writes `iommuctl.8` and one page for each command into `directory`, and the others.
pub fn run(mut command: clap::Command, directory: &Path) -> anyhow::Result<Exit> {
    command.build();
    pages(directory, &command, "iommuctl")?;
    for (name, text) in OTHERS {
        write(&directory.join(name), text.as_bytes())?;
    }
    Ok(Exit::Done)
}

/// The page of `command`, and those of the commands below it.
fn pages(directory: &Path, command: &clap::Command, name: &str) -> anyhow::Result<()> {
    page(directory, command, name)?;
    let is_shown = |sub: &&clap::Command| !sub.is_hide_set() && sub.get_name() != "help";
    for sub in command.get_subcommands().filter(is_shown) {
        pages(directory, sub, &format!("{name}-{}", sub.get_name()))?;
    }
    Ok(())
}

fn page(directory: &Path, command: &clap::Command, name: &str) -> anyhow::Result<()> {
    let path = directory.join(format!("{name}.8"));
    let notes = command.get_after_long_help().or(command.get_after_help());
    let notes = notes.map(ToString::to_string);
    let synopsis = synopsis(command, name);
    // The command that prints help has no page, so none is to name it.
    let mut command = match command.find_subcommand("help") {
        Some(_) => command
            .clone()
            .mut_subcommand("help", |help| help.hide(true)),
        None => command.clone(),
    };
    command = command
        .display_name(name.to_owned())
        .after_help(Resettable::Reset)
        .after_long_help(Resettable::Reset);
    let man = clap_mangen::Man::new(command)
        .section("8")
        .manual("iommuctl");
    let mut text = Vec::new();
    man.render(&mut text)?;
    let text = with_synopsis(&String::from_utf8_lossy(&text), &synopsis);
    let text = text + &sections(&notes.unwrap_or_default());
    write(&path, text.as_bytes())
}

fn write(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("Failed to write {}", path.display()))
}

/// The line below SYNOPSIS. clap_mangen leaves out what an option takes.
fn synopsis(command: &clap::Command, name: &str) -> String {
    // After build(), with the commands above it: `iommuctl policy apply`.
    let typed = command.get_bin_name().unwrap_or(name);
    let mut words = vec![format!("\\fB{}\\fR", escaped(typed))];
    let shown = |arg: &&clap::Arg| {
        let of_clap = matches!(arg.get_id().as_str(), "help" | "version");
        !arg.is_hide_set() && !of_clap
    };
    let (positional, options): (Vec<&clap::Arg>, Vec<&clap::Arg>) = command
        .get_arguments()
        .filter(shown)
        .partition(|arg| arg.is_positional());
    for arg in options.into_iter().chain(positional) {
        let mut word = String::new();
        if let Some(long) = arg.get_long() {
            word = format!("\\fB{}\\fR", escaped(&format!("--{long}")));
        }
        let takes_values = arg.get_num_args().is_some_and(|n| n.takes_values());
        for value in arg.get_value_names().unwrap_or_default() {
            if takes_values {
                let space = if word.is_empty() { "" } else { " " };
                word = format!("{word}{space}\\fI{}\\fR", escaped(value));
            }
        }
        if arg.get_num_args().is_some_and(|n| n.max_values() > 1)
            || matches!(arg.get_action(), clap::ArgAction::Append)
        {
            word.push_str("...");
        }
        words.push(match arg.is_required_set() {
            true => word,
            false => format!("[{word}]"),
        });
    }
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        words.push(match command.is_subcommand_required_set() {
            true => "\\fICOMMAND\\fR".to_owned(),
            false => "[\\fICOMMAND\\fR]".to_owned(),
        });
    }
    words.join(" ")
}

/// `page` with `line` in the place of what is below SYNOPSIS.
fn with_synopsis(page: &str, line: &str) -> String {
    let head = ".SH SYNOPSIS\n";
    let Some((before, rest)) = page.split_once(head) else {
        return page.to_owned();
    };
    let after = rest.split_once(".SH ").map_or("", |(_, after)| after);
    format!("{before}{head}{line}\n.SH {after}")
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// The text below a help text as sections of a man page, with its lines as they are: each paragraph that begins with
/// a line such as `Targets:` becomes a section. Left to clap_mangen, its tables would be filled into paragraphs.
fn sections(notes: &str) -> String {
    let mut text = String::new();
    let mut lines = notes.lines().peekable();
    while let Some(line) = lines.next() {
        let next_is_indented = lines.peek().is_some_and(|l| l.starts_with(' '));
        match line.strip_suffix(':') {
            Some(title) if next_is_indented => {
                text.push_str(&format!(".SH {}\n.nf\n", title.to_uppercase()));
            }
            _ => {
                // `\&` keeps a dot or a quote at the beginning of a line from being a request.
                text.push_str(&format!("\\&{}\n", escaped(line)));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_their_lines() {
        let text = sections("Exit codes:\n  0  done\n\n.x-y\n");
        assert_eq!(text, ".SH EXIT CODES\n.nf\n\\&  0  done\n\\&\n\\&.x\\-y\n");
    }
}
