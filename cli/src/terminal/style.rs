// SPDX-License-Identifier: GPL-2.0-only
//! What is set apart, and how.

use anstyle::{AnsiColor, Style};
use iommuctl_policy::DomainType;

/// Headings.
pub const HEADING: Style = Style::new().bold();
/// What is there, but matters less.
pub const DIM: Style = Style::new().dimmed();
/// What deserves a look.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// What is bad.
pub const BAD: Style = AnsiColor::Red.on_default();
/// What is good.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Nothing special.
pub const PLAIN: Style = Style::new();

/// From strict to none: green, yellow, red.
#[must_use]
pub fn of_type(domain_type: Option<&DomainType>) -> Style {
    match domain_type {
        Some(DomainType::Dma | DomainType::Blocked) => GOOD,
        Some(DomainType::DmaFq) => WARN,
        Some(DomainType::Identity) => BAD,
        _ => PLAIN,
    }
}

/// The type, or a dash.
#[must_use]
pub fn type_text(domain_type: Option<&DomainType>) -> &str {
    domain_type.map_or("-", DomainType::as_str)
}
