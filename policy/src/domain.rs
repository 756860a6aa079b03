// SPDX-License-Identifier: GPL-2.0-only
//! The default domain type of a group, as read and as written.
//!
//! Two Rust types for two vocabularies: what `/sys/kernel/iommu_groups/N/type` can say, and what may be written
//! to it, are different sets (`iommu_group_show_type` and `iommu_group_store_type` in `drivers/iommu/iommu.c`).

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The type a group has, as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DomainType {
    /// `DMA`: translated and strict. An unmap invalidates the IOTLB before it returns.
    Dma,
    /// `DMA-FQ`: translated and lazy. Unmapped addresses stay reachable until a batched flush.
    DmaFq,
    /// `identity`: not translated at all.
    Identity,
    /// `blocked`: all DMA is refused.
    Blocked,
    /// `unmanaged`: a domain that somebody outside the kernel's DMA API maps.
    Unmanaged,
    /// Any other text. The kernel of today says `unknown` for a group without a default domain; kernels to come may
    /// have types this program does not know.
    Unknown(String),
}

impl DomainType {
    /// Takes the text of the `type` file, without its newline. Never fails: other text is kept as it is.
    #[must_use]
    pub fn from_kernel(text: &str) -> Self {
        match text {
            "DMA" => Self::Dma,
            "DMA-FQ" => Self::DmaFq,
            "identity" => Self::Identity,
            "blocked" => Self::Blocked,
            "unmanaged" => Self::Unmanaged,
            other => Self::Unknown(other.to_owned()),
        }
    }

    /// The token the kernel uses.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Dma => "DMA",
            Self::DmaFq => "DMA-FQ",
            Self::Identity => "identity",
            Self::Blocked => "blocked",
            Self::Unmanaged => "unmanaged",
            Self::Unknown(text) => text,
        }
    }
}

impl fmt::Display for DomainType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for DomainType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A type that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TypeRequest {
    /// `DMA`: translated and strict.
    Dma,
    /// `DMA-FQ`: translated and lazy.
    DmaFq,
    /// `identity`: no translation.
    Identity,
    /// `auto`: what the kernel would have chosen at boot. What comes of it is known only afterwards.
    Auto,
}

impl TypeRequest {
    /// Every request there is, in the order in which help texts show them.
    pub const ALL: [Self; 4] = [Self::Dma, Self::DmaFq, Self::Identity, Self::Auto];

    /// The token the kernel takes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dma => "DMA",
            Self::DmaFq => "DMA-FQ",
            Self::Identity => "identity",
            Self::Auto => "auto",
        }
    }

    /// The type the group has once the request is granted; `None` for [`TypeRequest::Auto`], which names no type.
    #[must_use]
    pub fn result(self) -> Option<DomainType> {
        match self {
            Self::Dma => Some(DomainType::Dma),
            Self::DmaFq => Some(DomainType::DmaFq),
            Self::Identity => Some(DomainType::Identity),
            Self::Auto => None,
        }
    }
}

impl fmt::Display for TypeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for TypeRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The text names no type that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown type `{text}` (valid types: DMA, DMA-FQ, identity, auto{})", suggestion.map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
pub struct ParseTypeRequestError {
    text: String,
    /// The valid type that was most likely meant.
    pub suggestion: Option<TypeRequest>,
}

/// The request somebody most likely meant by a word people use for it.
fn suggest(text: &str) -> Option<TypeRequest> {
    let bare: String = text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    match bare.as_str() {
        "dma" | "strict" | "translated" | "tighten" => Some(TypeRequest::Dma),
        "dmafq" | "fq" | "lazy" | "relax" | "deferred" => Some(TypeRequest::DmaFq),
        "identity" | "id" | "identiy" | "passthrough" | "pt" | "off" => Some(TypeRequest::Identity),
        "auto" | "default" | "automatic" => Some(TypeRequest::Auto),
        _ => None,
    }
}

impl FromStr for TypeRequest {
    type Err = ParseTypeRequestError;

    /// Takes exactly the kernel's tokens (in any case), so that what was typed, what is written and what the
    /// kernel's documentation says are one word. Other common words become a suggestion in the error.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|t| t.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| ParseTypeRequestError {
                text: text.to_owned(),
                suggestion: suggest(text),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_token_survives_a_round_trip() {
        for token in [
            "DMA",
            "DMA-FQ",
            "identity",
            "blocked",
            "unmanaged",
            "unknown",
        ] {
            assert_eq!(DomainType::from_kernel(token).to_string(), token);
        }
        assert_eq!(
            DomainType::from_kernel("unknown"),
            DomainType::Unknown("unknown".into())
        );
        // The kernel's tokens are case sensitive, and so is what it says.
        assert_eq!(
            DomainType::from_kernel("dma"),
            DomainType::Unknown("dma".into())
        );
    }

    #[test]
    fn requests_parse_in_any_case() {
        for request in TypeRequest::ALL {
            assert_eq!(request.as_str().parse(), Ok(request));
            assert_eq!(request.as_str().to_lowercase().parse(), Ok(request));
        }
    }

    #[test]
    fn unknown_request_names_the_valid_ones_and_a_suggestion() {
        let error = "lazy".parse::<TypeRequest>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown type `lazy` (valid types: DMA, DMA-FQ, identity, auto; did you mean `DMA-FQ`?)"
        );
        let error = "banana".parse::<TypeRequest>().unwrap_err();
        assert_eq!(error.suggestion, None);
        assert_eq!(
            error.to_string(),
            "unknown type `banana` (valid types: DMA, DMA-FQ, identity, auto)"
        );
        // What can be read but not written is not a request.
        assert!("blocked".parse::<TypeRequest>().is_err());
    }
}
