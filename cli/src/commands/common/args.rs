// SPDX-License-Identifier: GPL-2.0-only
//! Arguments that many commands share.

use std::time::Duration;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use iommuctl_policy::TypeRequest;

use crate::kernel::machine::Roots;
use crate::terminal::output::{Color, Output};

/// The heading over the options of every command.
const GLOBAL: &str = "Global options";

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// Print one JSON document (its "version" is 1)
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Print errors only
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
    /// When to use colour; auto is only on a terminal, and respects NO_COLOR
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "WHEN",
        default_value = "auto"
    )]
    pub color: Color,
    /// Where the machine is.
    #[command(flatten)]
    pub roots: Roots,
}

impl Global {
    /// The streams to write to, as these options say.
    #[must_use]
    pub fn output(&self) -> Output {
        Output::new(self.json, self.quiet, self.color)
    }
}

/// How a target is written; the same text for every command that takes one.
pub const TARGET_HELP: &str = "\
Targets:
  3                 the group with this number
  00:1f.2           the group of this PCI device (also 0000:00:1f.2)
  /dev/nvme0n1      the group of the device behind this node; partitions, dm and md too
  nvme0n1           the same, by the kernel's name of it
  /home             the group of the device this file system is mounted from
  eth0              the group of this network interface
  driver:nvme       every group with a device bound to this driver
  class:network     every group with a device of this PCI class (name, or hexadecimal such as 0108)
  all               every group

A number is always a group, and a path always has a slash in it. Where a name could be
taken for something else, say group:3, pci:00:1f.2, net:eth0 or /dev/nvme0n1. Nothing
is changed unless every target is found.";

/// One command at a time changes groups. The same for each of them.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Wait {
    /// How long to wait for another iommuctl that is changing something; 0 gives up at once
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_lock_timeout)]
    pub lock_timeout: Duration,
}

/// How long the kernel may take. The same for each command that rebinds.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Patience {
    /// How long to wait for the kernel, for each group, and for each step of a rebind; what has begun cannot be
    /// cancelled
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
}

/// A number of seconds above 0.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number of seconds above 0, such as 30 or 0.5".to_owned();
    let value: f64 = text.parse().map_err(|_| wrong())?;
    if value <= 0.0 {
        return Err(wrong());
    }
    // A day is longer than anybody waits, and keeps deadlines within what an Instant can hold.
    Duration::try_from_secs_f64(value)
        .map(|d| d.min(Duration::from_secs(86_400)))
        .map_err(|_| wrong())
}

/// The same, and 0 for no time at all.
fn parse_lock_timeout(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0.0) => Ok(Duration::ZERO),
        _ => seconds(text).map_err(|_| "expected a number of seconds, such as 60 or 0".to_owned()),
    }
}

/// Parses a [`TypeRequest`], with its own suggestions, and the valid values for completion scripts.
#[derive(Clone)]
pub struct TypeParser;

impl TypedValueParser for TypeParser {
    type Value = TypeRequest;

    fn parse_ref(
        &self,
        cmd: &clap::Command,
        _arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Self::Value, clap::Error> {
        let text = value.to_string_lossy();
        text.parse()
            .map_err(|error: iommuctl_policy::ParseTypeRequestError| {
                let mut failure = clap::Error::new(ErrorKind::InvalidValue).with_cmd(cmd);
                failure.insert(
                    ContextKind::InvalidArg,
                    ContextValue::String("<TYPE>".into()),
                );
                failure.insert(
                    ContextKind::InvalidValue,
                    ContextValue::String(text.into_owned()),
                );
                failure.insert(
                    ContextKind::ValidValue,
                    ContextValue::Strings(
                        TypeRequest::ALL.iter().map(ToString::to_string).collect(),
                    ),
                );
                let order = "the type comes last, after the targets".to_owned().into();
                failure.insert(
                    ContextKind::Suggested,
                    ContextValue::StyledStrs(vec![order]),
                );
                if let Some(meant) = error.suggestion {
                    failure.insert(
                        ContextKind::SuggestedValue,
                        ContextValue::String(meant.to_string()),
                    );
                }
                failure
            })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let help = |request| match request {
            TypeRequest::Dma => "Translated and strict",
            TypeRequest::DmaFq => {
                "Translated and lazy: faster, and for a moment a device can reach freed memory"
            }
            TypeRequest::Identity => "Not translated: fastest, and no protection",
            TypeRequest::Auto => "What the kernel would have chosen at boot",
        };
        let value = move |t: TypeRequest| PossibleValue::new(t.as_str()).help(help(t));
        Some(Box::new(TypeRequest::ALL.into_iter().map(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_timeout_may_be_zero() {
        assert_eq!(parse_lock_timeout("0"), Ok(Duration::ZERO));
        assert_eq!(parse_lock_timeout("1.5"), Ok(Duration::from_millis(1500)));
        assert!(parse_lock_timeout("-1").is_err() && parse_lock_timeout("x").is_err());
    }

    #[test]
    fn timeout_is_a_positive_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "x", ""] {
            assert!(seconds(text).is_err(), "{text:?} was accepted");
        }
        assert_eq!(seconds("1e9"), Ok(Duration::from_secs(86_400)));
        assert!(seconds("inf").is_err());
    }
}
