// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl.policy=` on the kernel command line: the way to boot a machine whose policy is wrong.

use std::path::PathBuf;

use super::Proc;
use crate::sys::kernfs::KernFsError;

/// What the kernel command line says about the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyWord {
    /// Nothing: the policy of the system counts.
    Absent,
    /// `off`: nothing is to be applied.
    Off,
    /// A path: this file or directory, and not the policy of the system.
    Path(PathBuf),
    /// Something else.
    Unknown(String),
}

impl Proc {
    /// What the kernel command line says about the policy. Of several words, the last counts.
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
