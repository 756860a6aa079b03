// SPDX-License-Identifier: GPL-2.0-only

//! Tests of the parts of the module that are plain Rust: the very files the module is built
//! from, compiled for the host.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../kmod/auditgen/emit.rs"]
mod audit_emit;
#[path = "../../kmod/layoutgen/btf.rs"]
mod btf;
#[path = "../../kmod/layoutgen/elf.rs"]
mod elf;
#[path = "../../kmod/layoutgen/emit.rs"]
mod emit;
#[path = "../../kmod/layoutgen/hash.rs"]
mod hash;
#[path = "../../kmod/auditgen/list.rs"]
mod list;
#[path = "../../kmod/auditgen/source.rs"]
mod source;

mod audit;
mod btf_builder;
mod layout;

/// Everything is released together.
#[test]
fn there_is_one_version() {
    let module = include_str!("../../kmod/VERSION").trim();
    assert_eq!(module, env!("CARGO_PKG_VERSION"));
    let collection = include_str!("../../packaging/ansible/galaxy.yml");
    let line = format!("\nversion: {}\n", env!("CARGO_PKG_VERSION"));
    assert!(collection.contains(&line), "galaxy.yml has another");
}
