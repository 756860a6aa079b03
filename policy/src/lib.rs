// SPDX-License-Identifier: GPL-2.0-only
//! The model behind `iommuctl`: IOMMU groups, the devices in them, and the types a group can have.
//!
//! This crate is pure. It parses text and compares values, and touches neither files nor the system, so that
//! everything in it can be tested without a kernel. Reading the kernel is the business of the `iommuctl` crate.

mod address;
mod device;
mod domain;
mod group;
mod ids;
mod inventory;
mod route;

pub use address::{ParsePciAddressError, PciAddress};
pub use device::{Device, Removable};
pub use domain::{DomainType, ParseTypeRequestError, TypeRequest};
pub use group::{Group, GroupId, ParseGroupIdError, ReservedRegion};
pub use ids::{ParsePciIdError, PciClass, PciId};
pub use inventory::Inventory;
pub use route::{ParseRouteError, Route};
