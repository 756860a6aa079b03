// SPDX-License-Identifier: GPL-2.0-only
//! The two types that a bench compares. No other type can be represented, so none can be written.

use std::fmt;

use iommuctl_policy::{DomainType, TypeRequest};
use serde::{Deserialize, Serialize};

/// One of the two types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// `DMA`.
    #[serde(rename = "DMA")]
    Strict,
    /// `DMA-FQ`.
    #[serde(rename = "DMA-FQ")]
    Lazy,
}

impl Mode {
    /// The mode of a group with this type; `None` for any other type.
    #[must_use]
    pub fn of(domain_type: &DomainType) -> Option<Self> {
        match domain_type {
            DomainType::Dma => Some(Self::Strict),
            DomainType::DmaFq => Some(Self::Lazy),
            _ => None,
        }
    }

    /// The other mode.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Strict => Self::Lazy,
            Self::Lazy => Self::Strict,
        }
    }

    /// The request to the kernel for this mode.
    #[must_use]
    pub fn request(self) -> TypeRequest {
        match self {
            Self::Strict => TypeRequest::Dma,
            Self::Lazy => TypeRequest::DmaFq,
        }
    }

    /// The type that the kernel then shows.
    #[must_use]
    pub fn domain_type(self) -> DomainType {
        match self {
            Self::Strict => DomainType::Dma,
            Self::Lazy => DomainType::DmaFq,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request().fmt(f)
    }
}
