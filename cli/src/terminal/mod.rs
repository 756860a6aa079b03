// SPDX-License-Identifier: GPL-2.0-only
//! Writing for people: streams, colours, tables, progress.

pub mod duration;
pub mod locale;
pub mod output;
pub mod progress;
pub mod style;
pub mod table;
