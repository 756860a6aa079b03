// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl man`: the man pages, from the definitions of the command line. For packages.

use std::path::Path;

use anyhow::Context as _;
use clap::builder::Resettable;
use clap::CommandFactory;

use crate::args::Args;
use crate::exit::Exit;

/// Writes `iommuctl.8` and one page for each command into `directory`.
pub fn run(directory: &Path) -> anyhow::Result<Exit> {
    let mut command = Args::command();
    command.build();
    // The command that prints help has no page, and the others name it among their own.
    let command = command.mut_subcommand("help", |help| help.hide(true));
    pages(directory, &command, "iommuctl")?;
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
    let notes = command.get_after_help().map(ToString::to_string);
    let command = command
        .clone()
        .display_name(name.to_owned())
        .after_help(Resettable::Reset);
    let man = clap_mangen::Man::new(command)
        .section("8")
        .manual("iommuctl");
    let mut text = Vec::new();
    man.render(&mut text)?;
    text.extend(sections(&notes.unwrap_or_default()).into_bytes());
    std::fs::write(&path, text).with_context(|| format!("Failed to write {}", path.display()))
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
                let escaped = line.replace('\\', "\\e").replace('-', "\\-");
                text.push_str(&format!("\\&{escaped}\n"));
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
