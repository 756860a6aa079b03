// SPDX-License-Identifier: GPL-2.0-only

//! The layout generator: right on good BTF, and an error on anything it was not written for.

use crate::btf::{Btf, Shape};
use crate::btf_builder::{Builder, FUNC_PROTO, PTR, STRUCT, TYPEDEF, UNION};
use crate::{elf, emit};

/// A structure as the kernel might have it: a pointer in an anonymous union, a flag, an
/// embedded structure.
fn sample(extra_field: bool) -> Vec<u8> {
    let mut b = Builder::new();
    let long = b.int("long", 8, 64);
    let boolean = b.int("_Bool", 1, 8);
    let pointer = b.pointer();
    let inner = b.compound(STRUCT, "inner", 16, &[("a", long, 0), ("b", long, 64)]);
    let alias = b.push("alias_t", TYPEDEF << 24, inner, &[]);
    let union = b.compound(
        UNION,
        "",
        8,
        &[("single", pointer, 0), ("percpu", pointer, 0)],
    );
    let shift = if extra_field { 64 } else { 0 };
    let mut members = vec![("first", long, 0)];
    if extra_field {
        members.push(("new", long, 64));
    }
    members.extend([
        ("", union, 64 + shift),
        ("embedded", alias, 128 + shift),
        ("flag", boolean, 256 + shift),
    ]);
    b.compound(STRUCT, "outer", 40 + shift / 8, &members);
    b.enumeration("mode", &[("OFF", 0), ("ON", 7)]);
    b.finish()
}

fn offset(raw: &[u8], field: &str) -> usize {
    Btf::parse(raw)
        .unwrap()
        .field("outer", field)
        .unwrap()
        .offset
}

fn error(raw: &[u8], name: &str, field: &str) -> String {
    Btf::parse(raw).unwrap().field(name, field).unwrap_err()
}

#[test]
fn fields_are_where_the_kernel_put_them() {
    let raw = sample(false);
    let btf = Btf::parse(&raw).unwrap();
    assert_eq!(btf.size_of("outer"), Ok(40));
    assert_eq!(offset(&raw, "first"), 0);
    assert_eq!(offset(&raw, "single"), 8);
    assert_eq!(offset(&raw, "percpu"), 8);
    assert_eq!(offset(&raw, "embedded"), 16);
    assert_eq!(offset(&raw, "flag"), 32);
    assert_eq!(
        btf.field("outer", "embedded").unwrap().shape,
        Shape::Struct("inner".into())
    );
    assert_eq!(btf.field("outer", "flag").unwrap().shape, Shape::Int(1));
    assert_eq!(
        btf.field("outer", "single").unwrap().shape,
        Shape::Pointer(String::new())
    );
    assert_eq!(btf.enumerator("mode", "ON"), Ok(7));
}

#[test]
fn an_added_field_moves_the_rest() {
    let raw = sample(true);
    assert_eq!(offset(&raw, "percpu"), 16);
    assert_eq!(offset(&raw, "flag"), 40);
}

#[test]
fn a_removed_field_is_an_error() {
    assert_eq!(
        error(&sample(false), "outer", "gone"),
        "struct outer has no field gone"
    );
    assert_eq!(
        error(&sample(false), "nowhere", "x"),
        "nowhere is not in this kernel's BTF"
    );
    let raw = sample(false);
    let btf = Btf::parse(&raw).unwrap();
    assert!(btf
        .enumerator("mode", "AUTO")
        .unwrap_err()
        .contains("has no AUTO"));
}

#[test]
fn a_structure_defined_twice_is_an_error() {
    let mut b = Builder::new();
    let long = b.int("long", 8, 64);
    b.compound(STRUCT, "twice", 8, &[("x", long, 0)]);
    b.compound(STRUCT, "twice", 16, &[("y", long, 0), ("x", long, 64)]);
    assert!(error(&b.finish(), "twice", "x").contains("defined more than once"));
}

#[test]
fn a_field_there_twice_is_an_error() {
    let mut b = Builder::new();
    let long = b.int("long", 8, 64);
    let union = b.compound(UNION, "", 8, &[("x", long, 0)]);
    b.compound(STRUCT, "s", 16, &[("x", long, 0), ("", union, 64)]);
    assert!(error(&b.finish(), "s", "x").contains("more than one field x"));
}

#[test]
fn bit_fields_are_an_error() {
    let mut b = Builder::new();
    let word = b.int("unsigned int", 4, 32);
    let narrow = b.int("unsigned int", 4, 1);
    b.packed(
        "new_style",
        8,
        &[("bit", word, 32, 1), ("whole", word, 0, 0)],
    );
    b.compound(STRUCT, "old_style", 8, &[("bit", narrow, 32)]);
    b.compound(STRUCT, "odd", 8, &[("shifted", word, 33)]);
    let raw = b.finish();
    assert!(error(&raw, "new_style", "bit").contains("bit-field"));
    assert!(error(&raw, "old_style", "bit").contains("bit-field"));
    assert!(error(&raw, "odd", "shifted").contains("does not start at a byte"));
    assert_eq!(
        Btf::parse(&raw)
            .unwrap()
            .field("new_style", "whole")
            .unwrap()
            .offset,
        0
    );
}

#[test]
fn impossible_places_are_errors() {
    let mut b = Builder::new();
    let long = b.int("long", 8, 64);
    b.compound(
        STRUCT,
        "s",
        16,
        &[
            ("outside", long, 128),
            ("odd", long, 32),
            ("far", long, 1 << 23),
        ],
    );
    let raw = b.finish();
    assert!(error(&raw, "s", "outside").contains("lies outside"));
    assert!(error(&raw, "s", "far").contains("lies outside"));
    assert!(error(&raw, "s", "odd").contains("not aligned"));
}

#[test]
fn functions_are_known_by_parameters_and_result() {
    let mut b = Builder::new();
    let long = b.int("long", 8, 64);
    let inner = b.compound(STRUCT, "inner", 8, &[("x", long, 0)]);
    let pointer = b.push("", PTR << 24, inner, &[]);
    let callback = b.push("", FUNC_PROTO << 24, 0, &[]);
    let callback = b.push("", PTR << 24, callback, &[]);
    let proto = b.push(
        "",
        FUNC_PROTO << 24 | 3,
        long,
        &[0, pointer, 0, long, 0, callback],
    );
    let function = b.push("", PTR << 24, proto, &[]);
    b.compound(STRUCT, "ops", 8, &[("call", function, 0)]);
    let raw = b.finish();
    let shape = Btf::parse(&raw)
        .unwrap()
        .field("ops", "call")
        .unwrap()
        .shape;
    let parameters = vec![
        Shape::Pointer("inner".into()),
        Shape::Int(8),
        Shape::Pointer(String::new()),
    ];
    assert_eq!(shape, Shape::Function(parameters, Box::new(Shape::Int(8))));
}

/// BTF with an `iommu_group` whose `devices` is of type `devices` at `at` bits.
fn group(at: u32, wrong: bool) -> Vec<u8> {
    let mut b = Builder::new();
    let word = b.int("unsigned int", 4, 32);
    let kobject = b.compound(STRUCT, "kobject", 8, &[]);
    let list = b.compound(STRUCT, "list_head", 16, &[]);
    let devices = if wrong { word } else { list };
    let members = ["mutex", "id", "default_domain"].map(|name| (name, word, 256));
    let members: Vec<_> = [("kobj", kobject, 0), ("devices", devices, at)]
        .into_iter()
        .chain(members)
        .collect();
    b.compound(STRUCT, "iommu_group", 64, &members);
    b.finish()
}

#[test]
fn a_field_of_another_shape_is_an_error() {
    assert_eq!(
        emit::layout(&group(64, true)).unwrap_err(),
        "iommu_group.devices is Int(4), but the module was written for Struct(\"list_head\")"
    );
}

#[test]
fn fields_that_overlap_are_an_error() {
    assert_eq!(
        emit::layout(&group(32, false)).unwrap_err(),
        "iommu_group.devices and iommu_group.kobj overlap"
    );
    assert!(emit::layout(&group(64, false))
        .unwrap_err()
        .starts_with("iommu_group.mutex is"));
}

#[test]
fn what_follows_itself_is_an_error() {
    let mut b = Builder::new();
    // Type 1 is a typedef of itself; type 2 contains itself.
    b.push("loop", TYPEDEF << 24, 1, &[]);
    b.compound(STRUCT, "s", 8, &[("x", 1, 0)]);
    b.compound(STRUCT, "t", 8, &[("", 3, 0)]);
    let raw = b.finish();
    assert!(error(&raw, "s", "x").contains("never ends"));
    assert!(error(&raw, "t", "x").contains("nested too deeply"));
}

#[test]
fn an_unknown_kind_is_an_error() {
    let mut b = Builder::new();
    b.push("future", 20 << 24, 0, &[]);
    assert!(Btf::parse(&b.finish()).is_err_and(|e| e.contains("kind 20")));
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let raw = sample(false);
    for length in 0..raw.len() {
        let cut = &raw[..length];
        let parsed = elf::btf_section(cut).and_then(|raw| Btf::parse(raw).map(|_| ()));
        assert!(parsed.is_err(), "cut at {length}");
    }
    for at in 0..raw.len() {
        for bit in 0..8 {
            let mut bad = raw.clone();
            bad[at] ^= 1 << bit;
            // Any answer will do, as long as there is one.
            let _ = elf::btf_section(&bad).and_then(emit::layout);
            let _ = Btf::parse(&bad).map(|btf| btf.field("outer", "percpu"));
        }
    }
}

/// Wraps `sections` of name and content into a minimal 64-bit ELF file.
fn elf_file(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut names = vec![0];
    let mut body = vec![0u8; 64];
    let mut headers = vec![0u8; 64];
    let add = |headers: &mut Vec<u8>, name: usize, kind: u32, at: usize, len: usize| {
        let mut header = [0u8; 64];
        header[..4].copy_from_slice(&u32::try_from(name).unwrap().to_le_bytes());
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
        header[0x20..0x28].copy_from_slice(&(len as u64).to_le_bytes());
        headers.extend(header);
    };
    for (name, content) in sections {
        add(&mut headers, names.len(), 1, body.len(), content.len());
        names.extend(name.as_bytes());
        names.push(0);
        body.extend(*content);
    }
    add(&mut headers, 0, 3, body.len(), names.len());
    body.extend(names);
    let (table, count) = (body.len(), headers.len() / 64);
    body.extend(headers);
    body[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    body[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
    body[0x3a..0x3c].copy_from_slice(&64u16.to_le_bytes());
    body[0x3c..0x3e].copy_from_slice(&u16::try_from(count).unwrap().to_le_bytes());
    body[0x3e..0x40].copy_from_slice(&u16::try_from(count - 1).unwrap().to_le_bytes());
    body
}

#[test]
fn the_btf_section_is_found_in_an_elf_file() {
    let raw = sample(false);
    let file = elf_file(&[(".text", b"code"), (".BTF", &raw)]);
    assert_eq!(elf::btf_section(&file), Ok(&raw[..]));
    let none = elf_file(&[(".text", b"code")]);
    assert!(elf::btf_section(&none)
        .unwrap_err()
        .contains("CONFIG_DEBUG_INFO_BTF"));
    let two = elf_file(&[(".BTF", &raw), (".BTF", &raw)]);
    assert!(elf::btf_section(&two)
        .unwrap_err()
        .contains("two .BTF sections"));
    assert!(elf::btf_section(b"#!/bin/sh")
        .unwrap_err()
        .contains("neither"));
}
