// SPDX-License-Identifier: GPL-2.0-only
//! A finding: its subject, its severity, and the fix.

use serde::Serialize;

/// The subject of a finding, in the order in which findings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Id {
    /// Whether there is an IOMMU, and it is on.
    Iommu,
    /// What groups start as.
    Default,
    /// Whether the module can be built for the running kernel.
    ModuleSupport,
    /// Whether the module is installed for the running kernel.
    ModuleBuilt,
    /// Which modules the kernel takes.
    SecureBoot,
    /// Whether the module is signed as the kernel wants it.
    ModuleSigned,
    /// Whether the kernel has the code that the module was audited with.
    ModuleAudited,
    /// Whether the module is loaded.
    ModuleLoaded,
    /// Whether the loaded module is the installed one, and of this version.
    ModuleMatches,
    /// Whether the module goes on switching.
    ModuleTripped,
    /// Whether there is a policy, it is valid, and the machine is as it wants.
    Policy,
    /// Whether the policy is applied at boot.
    PolicyAtBoot,
    /// Whether the initramfs has the present policy.
    Initramfs,
    /// Whether changes are recorded, and the log is as it was written.
    Audit,
    /// Whether a rebind was interrupted.
    Recover,
    /// Whether a lockdown is in force.
    Lockdown,
}

impl Id {
    /// Its name, as in the JSON document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Iommu => "iommu",
            Self::Default => "default",
            Self::ModuleSupport => "module-support",
            Self::ModuleBuilt => "module-built",
            Self::SecureBoot => "secure-boot",
            Self::ModuleSigned => "module-signed",
            Self::ModuleAudited => "module-audited",
            Self::ModuleLoaded => "module-loaded",
            Self::ModuleMatches => "module-matches",
            Self::ModuleTripped => "module-tripped",
            Self::Policy => "policy",
            Self::PolicyAtBoot => "policy-at-boot",
            Self::Initramfs => "initramfs",
            Self::Audit => "audit",
            Self::Recover => "recover",
            Self::Lockdown => "lockdown",
        }
    }
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// In order.
    Ok,
    /// Not wrong, but worth knowing.
    Note,
    /// Something that was asked for does not work.
    Bad,
    /// It could not be looked at.
    Unknown,
}

impl Level {
    /// Its name, as in the JSON document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
        }
    }
}

/// A finding about one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub id: Id,
    /// How good or bad it is.
    pub level: Level,
    /// What it is, in one sentence.
    pub text: String,
    /// What puts it right, one step each: a command where there is one. Empty if there is nothing to do.
    pub fix: Vec<String>,
}

impl Finding {
    pub fn new(id: Id, level: Level, text: impl Into<String>) -> Self {
        Self {
            id,
            level,
            text: text.into(),
            fix: Vec::new(),
        }
    }

    pub fn ok(id: Id, text: impl Into<String>) -> Self {
        Self::new(id, Level::Ok, text)
    }

    pub fn note(id: Id, text: impl Into<String>) -> Self {
        Self::new(id, Level::Note, text)
    }

    pub fn bad(id: Id, text: impl Into<String>) -> Self {
        Self::new(id, Level::Bad, text)
    }

    /// A finding that something is not known, because of `why`.
    pub fn unknown(id: Id, why: impl std::fmt::Display) -> Self {
        Self::new(id, Level::Unknown, format!("not known: {why}"))
    }

    /// Adds a step to the fix.
    pub fn fix(mut self, step: impl Into<String>) -> Self {
        self.fix.push(step.into());
        self
    }

    /// Adds steps to the fix.
    pub fn fixes(mut self, steps: impl IntoIterator<Item = String>) -> Self {
        self.fix.extend(steps);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_document() {
        let json = |value: serde_json::Value| value.as_str().unwrap().to_owned();
        for level in [Level::Ok, Level::Note, Level::Bad, Level::Unknown] {
            assert_eq!(json(serde_json::to_value(level).unwrap()), level.as_str());
        }
        let ids = [
            Id::Iommu,
            Id::Default,
            Id::ModuleSupport,
            Id::ModuleBuilt,
            Id::SecureBoot,
            Id::ModuleSigned,
            Id::ModuleAudited,
            Id::ModuleLoaded,
            Id::ModuleMatches,
            Id::ModuleTripped,
            Id::Policy,
            Id::PolicyAtBoot,
            Id::Initramfs,
            Id::Audit,
            Id::Recover,
            Id::Lockdown,
        ];
        assert!(ids.is_sorted());
        for id in ids {
            assert_eq!(json(serde_json::to_value(id).unwrap()), id.as_str());
        }
    }
}
