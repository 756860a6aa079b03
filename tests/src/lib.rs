// SPDX-License-Identifier: GPL-2.0-only
//! The test bed of iommuctl.
//!
//! [`host`] makes a virtual machine with a stock distribution kernel from nothing, and starts it; [`guest`] is what
//! runs inside, as process 1; [`report`] is the small language in which the inside tells the outside what it saw.
//! [`mod@bench`] measures how fast it all is.

pub mod bench;
pub mod guest;
pub mod host;
pub mod report;
