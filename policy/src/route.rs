// SPDX-License-Identifier: GPL-2.0-only
//! The ways by which a group's type can be changed.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// How a change is made. Ordered from the least to the most disruptive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// Nothing to do: the group has the type already.
    None,
    /// The kernel does it by itself when the type is written.
    Sysfs,
    /// The `iommu_live` module makes the write live.
    Module,
    /// Unbind every driver in the group, write the type, and bind them again. Interrupts the devices.
    Rebind,
    /// Only another kernel command line and a reboot can do it.
    Boot,
}

impl Route {
    const ALL: [Self; 5] = [
        Self::None,
        Self::Sysfs,
        Self::Module,
        Self::Rebind,
        Self::Boot,
    ];

    /// The token used in output and configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sysfs => "sysfs",
            Self::Module => "module",
            Self::Rebind => "rebind",
            Self::Boot => "boot",
        }
    }

    /// Whether the devices keep working while the change is made.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::None | Self::Sysfs | Self::Module)
    }
}

/// The text names no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown route `{0}` (valid routes: none, sysfs, module, rebind, boot)")]
pub struct ParseRouteError(String);

impl FromStr for Route {
    type Err = ParseRouteError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|r| r.as_str() == text)
            .ok_or_else(|| ParseRouteError(text.to_owned()))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_a_round_trip() {
        for route in Route::ALL {
            assert_eq!(route.as_str().parse(), Ok(route));
        }
        assert!("live".parse::<Route>().is_err());
    }

    #[test]
    fn less_disruptive_routes_come_first() {
        assert!(Route::Sysfs < Route::Module && Route::Module < Route::Rebind);
        assert!(Route::Module.is_live() && !Route::Rebind.is_live());
    }
}
