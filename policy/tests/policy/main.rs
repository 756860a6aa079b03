// SPDX-License-Identifier: GPL-2.0-only
//! The policy as a whole, from text to plan.
//!
//! `corpus/` holds policies with what is to come of them on the machine of `machine.rs`, and bad ones with what is to be
//! said about them; all are compared whole. `UPDATE_EXPECTED=1 cargo test -p iommuctl-policy` rewrites what is expected.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod corpus;
mod machine;
mod properties;
mod random;
mod speed;
