// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl.policy=` on the kernel command line: the way to boot a machine whose policy is wrong.

use std::path::PathBuf;

use super::Proc;
use crate::sys::kernfs::KernFsError;

/// The value of the parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyWord {
    /// Not set: the policy of the system applies.
    Absent,
    /// `off`: no policy is applied.
    Off,
    /// A path: this file or directory is used instead of the policy of the system.
    Path(PathBuf),
    /// An invalid value.
    Unknown(String),
}

impl Proc {
    /// Reads the parameter. If it is there several times, the last one counts.
    pub fn policy_word(&self) -> Result<PolicyWord, KernFsError> {
        Ok(policy_word(&self.command_line()?))
    }
}

fn policy_word(line: &str) -> PolicyWord {
    let mut words = line.split_ascii_whitespace().rev();
    let last = words.find_map(|w| w.strip_prefix("iommuctl.policy="));
    match last {
        None => PolicyWord::Absent,
        Some("off") => PolicyWord::Off,
        Some(path) if path.starts_with('/') => PolicyWord::Path(path.into()),
        Some(other) => PolicyWord::Unknown(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        assert_eq!(policy_word("quiet"), PolicyWord::Absent);
        assert_eq!(policy_word("iommuctl.policy=off quiet"), PolicyWord::Off);
        assert_eq!(
            policy_word("iommuctl.policy=off iommuctl.policy=/etc/p.yaml"),
            PolicyWord::Path("/etc/p.yaml".into())
        );
        assert_eq!(
            policy_word("iommuctl.policy=no"),
            PolicyWord::Unknown("no".to_owned())
        );
    }
}
