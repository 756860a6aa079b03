// SPDX-License-Identifier: GPL-2.0-only
//! What a rule of a policy can ask for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DomainType, TypeRequest};

/// What a rule wants a device's group to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Goal {
    /// Translated and strict.
    #[serde(rename = "DMA")]
    Dma,
    /// Translated and lazy: faster, and for a moment a device can reach freed memory.
    #[serde(rename = "DMA-FQ")]
    DmaFq,
    /// Not translated: fastest, and no protection.
    #[serde(rename = "identity")]
    Identity,
    /// As it is. When other devices of the group have wishes, the group does not become laxer than it is.
    #[serde(rename = "keep")]
    Keep,
}

impl Goal {
    /// The token used in policies and in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dma => "DMA",
            Self::DmaFq => "DMA-FQ",
            Self::Identity => "identity",
            Self::Keep => "keep",
        }
    }

    /// What to ask the kernel for; `None` for [`Goal::Keep`].
    #[must_use]
    pub fn request(self) -> Option<TypeRequest> {
        match self {
            Self::Dma => Some(TypeRequest::Dma),
            Self::DmaFq => Some(TypeRequest::DmaFq),
            Self::Identity => Some(TypeRequest::Identity),
            Self::Keep => None,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What becomes of a device no rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Unmatched {
    /// Its group stays as it is.
    #[default]
    #[serde(rename = "keep")]
    Keep,
    /// Translated and strict.
    #[serde(rename = "DMA")]
    Dma,
    /// Translated and lazy.
    #[serde(rename = "DMA-FQ")]
    DmaFq,
}

impl Unmatched {
    /// The same, as a rule would say it.
    #[must_use]
    pub fn goal(self) -> Goal {
        match self {
            Self::Keep => Goal::Keep,
            Self::Dma => Goal::Dma,
            Self::DmaFq => Goal::DmaFq,
        }
    }
}

/// How well a type protects: identity, lazy, strict, and all DMA refused. Types that say nothing about it have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strictness(u8);

impl Strictness {
    /// Of a type that is asked for; `None` for `auto`, which names no type.
    #[must_use]
    pub fn of_request(request: TypeRequest) -> Option<Self> {
        match request {
            TypeRequest::Identity => Some(Self(0)),
            TypeRequest::DmaFq => Some(Self(1)),
            TypeRequest::Dma => Some(Self(2)),
            TypeRequest::Auto => None,
        }
    }

    /// Of a type the kernel reports.
    #[must_use]
    pub fn of_type(domain_type: &DomainType) -> Option<Self> {
        match domain_type {
            DomainType::Identity => Some(Self(0)),
            DomainType::DmaFq => Some(Self(1)),
            DomainType::Dma => Some(Self(2)),
            DomainType::Blocked => Some(Self(3)),
            DomainType::Unmanaged | DomainType::Unknown(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_is_above_lazy_is_above_none() {
        let of = |request| Strictness::of_request(request).unwrap();
        assert!(of(TypeRequest::Dma) > of(TypeRequest::DmaFq));
        assert!(of(TypeRequest::DmaFq) > of(TypeRequest::Identity));
        for request in [TypeRequest::Dma, TypeRequest::DmaFq, TypeRequest::Identity] {
            let result = request.result().unwrap();
            assert_eq!(Strictness::of_type(&result), Some(of(request)));
        }
    }
}
