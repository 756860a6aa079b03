// SPDX-License-Identifier: GPL-2.0-only

//! What the module needs to know of the target kernel, and the Rust text that tells it.

use crate::btf::{Btf, Shape};
use crate::hash::fnv1a;
use std::fmt::Write;

/// Shape a field must have; the module's accessors and entries rely on it.
enum Want {
    U32,
    Bool,
    Enum,
    Struct(&'static str),
    /// `atomic_t` (4) or `atomic64_t` (8): a structure without a name, of so many bytes.
    Atomic(usize),
    /// At the end: structures of that name, as many as there is room for.
    Flexible(&'static str),
    /// To a structure of that name.
    Pointer(&'static str),
    /// Parameters and result.
    Function(&'static [Want], &'static Want),
    U64,
    /// As result only: nothing.
    Void,
}

impl Want {
    fn shape(&self) -> Shape {
        match self {
            Want::U32 => Shape::Int(4),
            Want::U64 => Shape::Int(8),
            Want::Bool => Shape::Int(1),
            Want::Enum => Shape::Enum(4),
            Want::Void => Shape::Void,
            Want::Struct(name) => Shape::Struct((*name).into()),
            Want::Atomic(_) => Shape::Struct(String::new()),
            Want::Flexible(name) => Shape::Flexible((*name).into()),
            Want::Pointer(name) => Shape::Pointer((*name).into()),
            Want::Function(parameters, result) => Shape::Function(
                parameters.iter().map(Want::shape).collect(),
                Box::new(result.shape()),
            ),
        }
    }
}

impl Want {
    /// Its size, where the shape does not say it.
    fn size(&self) -> Option<usize> {
        match self {
            Want::Atomic(size) => Some(*size),
            _ => None,
        }
    }
}

type Fields = &'static [(&'static str, Want)];

const DOMAIN: Want = Want::Pointer("iommu_domain");
const GATHER: Want = Want::Pointer("iommu_iotlb_gather");

/// Every structure and field the module touches, with the kernel file that defines it.
const WANTED: &[(&str, Fields)] = &[
    // drivers/iommu/iommu.c
    (
        "iommu_group",
        &[
            ("kobj", Want::Struct("kobject")),
            ("devices", Want::Struct("list_head")),
            ("mutex", Want::Struct("mutex")),
            ("id", Want::U32),
            ("default_domain", DOMAIN),
        ],
    ),
    (
        "group_device",
        &[
            ("list", Want::Struct("list_head")),
            ("dev", Want::Pointer("device")),
        ],
    ),
    (
        "iommu_group_attribute",
        &[
            ("attr", Want::Struct("attribute")),
            (
                "store",
                Want::Function(
                    &[Want::Pointer("iommu_group"), Want::Pointer(""), Want::U64],
                    &Want::U64,
                ),
            ),
        ],
    ),
    // drivers/iommu/dma-iommu.c
    (
        "iommu_dma_cookie",
        &[
            ("iovad", Want::Struct("iova_domain")),
            ("percpu_fq", Want::Pointer("iova_fq")),
            ("single_fq", Want::Pointer("iova_fq")),
            ("fq_flush_start_cnt", Want::Atomic(8)),
            ("fq_timer", Want::Struct("timer_list")),
            ("fq_timer_on", Want::Atomic(4)),
            ("fq_domain", DOMAIN),
            ("options", Want::Struct("iommu_dma_options")),
        ],
    ),
    ("iommu_dma_options", &[("qt", Want::Enum)]),
    (
        "iova_fq",
        &[
            ("head", Want::U32),
            ("tail", Want::U32),
            ("mod_mask", Want::U32),
            ("lock", Want::Struct("spinlock")),
            ("entries", Want::Flexible("iova_fq_entry")),
        ],
    ),
    (
        "iova_fq_entry",
        &[
            ("iova_pfn", Want::U64),
            ("pages", Want::U64),
            ("freelist", Want::Struct("iommu_pages_list")),
        ],
    ),
    // include/linux/iommu.h
    (
        "iommu_domain",
        &[
            ("type", Want::U32),
            ("cookie_type", Want::Enum),
            ("is_iommupt", Want::Bool),
            ("ops", Want::Pointer("iommu_domain_ops")),
            ("iova_cookie", Want::Pointer("iommu_dma_cookie")),
        ],
    ),
    (
        "iommu_domain_ops",
        &[
            ("flush_iotlb_all", Want::Function(&[DOMAIN], &Want::Void)),
            ("iotlb_sync", Want::Function(&[DOMAIN, GATHER], &Want::Void)),
            (
                "enforce_cache_coherency",
                Want::Function(&[DOMAIN], &Want::Bool),
            ),
            (
                "unmap_pages",
                Want::Function(
                    &[DOMAIN, Want::U64, Want::U64, Want::U64, GATHER],
                    &Want::U64,
                ),
            ),
        ],
    ),
    ("iommu_iotlb_gather", &[("queued", Want::Bool)]),
    // include/linux/generic_pt/iommu.h
    (
        "pt_iommu",
        &[
            ("domain", Want::Struct("iommu_domain")),
            ("ops", Want::Pointer("pt_iommu_ops")),
        ],
    ),
    (
        "pt_iommu_ops",
        &[(
            "unmap_range",
            Want::Function(
                &[Want::Pointer("pt_iommu"), Want::U64, Want::U64, GATHER],
                &Want::U64,
            ),
        )],
    ),
    // include/linux/timer_types.h
    (
        "timer_list",
        &[(
            "function",
            Want::Function(&[Want::Pointer("timer_list")], &Want::Void),
        )],
    ),
];

/// Fields that share their place on purpose: they are a union.
const UNION: [&str; 2] = ["percpu_fq", "single_fq"];

/// Enumerators the module compares with, by enumeration.
const ENUMERATORS: &[(&str, &[&str])] = &[
    ("iommu_domain_cookie_type", &["IOMMU_COOKIE_DMA_IOVA"]),
    (
        "iommu_dma_queue_type",
        &[
            "IOMMU_DMA_OPTS_PER_CPU_QUEUE",
            "IOMMU_DMA_OPTS_SINGLE_QUEUE",
        ],
    ),
];

/// The text of `src/layout_generated.rs` for the kernel whose raw BTF is `raw`.
///
/// # Errors
///
/// Names the first structure, field or enumerator that is not as the module expects.
pub(crate) fn layout(raw: &[u8]) -> Result<String, String> {
    let btf = Btf::parse(raw)?;
    let mut out = String::from(
        "// SPDX-License-Identifier: GPL-2.0-only\n\
         // Generated by layoutgen from the target kernel's BTF. Do not edit.\n\n",
    );
    put(&mut out, 0, "BTF_LEN", "u64", raw.len());
    // `src/identity.rs` computes the same at load.
    put(
        &mut out,
        0,
        "BTF_HASH",
        "u64",
        format_args!("{:#x}", fnv1a(raw)),
    );
    for (name, fields) in WANTED {
        let size = btf.size_of(name)?;
        let _ = write!(out, "\n#[allow(dead_code)]\npub(crate) mod {name} {{\n");
        put(&mut out, 4, "SIZE", "usize", size);
        let mut taken: Vec<(&str, usize, usize)> = Vec::new();
        for (field, want) in *fields {
            let found = btf.field(name, field)?;
            if found.shape != want.shape() {
                return Err(format!(
                    "{name}.{field} is {:?}, but the module was written for {:?}",
                    found.shape,
                    want.shape()
                ));
            }
            if want.size().is_some_and(|size| size != found.size) {
                return Err(format!("{name}.{field} has {} bytes", found.size));
            }
            let (start, end) = (found.offset, found.offset + found.size);
            let other = taken.iter().find(|(other, from, to)| {
                start < *to && *from < end && !(UNION.contains(field) && UNION.contains(other))
            });
            if let Some((other, ..)) = other {
                return Err(format!("{name}.{field} and {name}.{other} overlap"));
            }
            taken.push((field, start, end));
            put(&mut out, 4, &field.to_uppercase(), "usize", start);
        }
        out.push_str("}\n");
    }
    for (enumeration, names) in ENUMERATORS {
        let _ = write!(out, "\npub(crate) mod {enumeration} {{\n");
        for name in *names {
            put(&mut out, 4, name, "u32", btf.enumerator(enumeration, name)?);
        }
        out.push_str("}\n");
    }
    Ok(out)
}

fn put(out: &mut String, indent: usize, name: &str, ty: &str, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:indent$}pub(crate) const {name}: {ty} = {value};",
        ""
    );
}
