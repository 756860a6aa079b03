// SPDX-License-Identifier: GPL-2.0-only
//! The model behind `iommuctl` (IOMMU groups, the devices in them, the types a group can have), and the policy over it.
//!
//! A policy goes this way: [`parse()`] makes a [`PolicyFile`] of a text, [`Policy`] puts files together, [`evaluate()`] finds
//! out what it wants of each group, [`plan()`] what is to be done for that, and [`explain()`] why.
//!
//! This crate is pure. It parses text and compares values, and touches neither files nor the system, so that
//! everything in it can be tested without a kernel. Reading the kernel is the business of the `iommuctl` crate.

mod address;
mod any_of;
mod audit;
mod class;
mod device;
mod diff;
mod domain;
mod evaluate;
mod explain;
mod generate;
mod glob;
mod goal;
mod group;
mod ids;
mod inventory;
mod matching;
mod parse;
mod plan;
mod policy;
mod route;
mod rule;
#[cfg(test)]
mod schema;
mod suggest;
mod word;

pub use address::{ParsePciAddressError, PciAddress};
pub use any_of::AnyOf;
pub use audit::{AuditSettings, Require, Rotate};
pub use class::{ClassFilter, ParseClassError};
pub use device::{Device, Removable};
pub use diff::{differences, Difference};
pub use domain::{DomainType, ParseTypeRequestError, TypeRequest};
pub use evaluate::{evaluate, evaluate_group, Decision, Vote, Wish};
pub use explain::{explain, Explanation, MemberWish, RuleName, Trial, Tried};
pub use generate::{generate, Generated};
pub use glob::Glob;
pub use goal::{Goal, Strictness, Unmatched};
pub use group::{Group, GroupId, ParseGroupIdError, ReservedRegion};
pub use ids::{ParsePciIdError, PciClass, PciId};
pub use inventory::Inventory;
pub use matching::{Match, Mismatch};
pub use parse::{errors, parse, parse_audit_settings, write, ParseError};
pub use plan::{plan, Planned, Step};
pub use policy::{Defaults, Policy, PolicyFile, SourcedRule, VERSION};
pub use route::{ParseRouteError, Route};
pub use rule::{OnFailure, RouteLimit, Rule};
pub use word::{AddressPattern, Name, Word};

/// The JSON Schema of a file of a policy, for editors. Generated from the types; a test keeps it so.
pub const SCHEMA: &str = include_str!("../schema/policy.json");
