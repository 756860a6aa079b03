// SPDX-License-Identifier: GPL-2.0-only

//! Finds the BTF in a file: the `.BTF` section of a 64-bit little-endian ELF file, or all of a
//! raw BTF file.

use crate::btf;

const EHDR_SHOFF: usize = 0x28;
const EHDR_SHENTSIZE: usize = 0x3a;
const EHDR_SHNUM: usize = 0x3c;
const EHDR_SHSTRNDX: usize = 0x3e;
const SHDR_SIZE: usize = 64;
const SHT_NOBITS: u32 = 8;

fn bytes<const N: usize>(data: &[u8], at: usize) -> Result<[u8; N], String> {
    at.checked_add(N)
        .and_then(|end| data.get(at..end))
        .and_then(|s| s.try_into().ok())
        .ok_or_else(|| format!("truncated ELF file: {N} bytes wanted at offset {at:#x}"))
}

fn read_u16(data: &[u8], at: usize) -> Result<usize, String> {
    Ok(u16::from_le_bytes(bytes(data, at)?).into())
}

fn read_u32(data: &[u8], at: usize) -> Result<u32, String> {
    Ok(u32::from_le_bytes(bytes(data, at)?))
}

fn read_offset(data: &[u8], at: usize) -> Result<usize, String> {
    usize::try_from(u64::from_le_bytes(bytes(data, at)?))
        .map_err(|_| format!("offset at {at:#x} does not fit this machine"))
}

/// The file range of section header `index`, and its name's offset and type.
fn section(data: &[u8], table: usize, index: usize) -> Result<(u32, u32, &[u8]), String> {
    let header = index
        .checked_mul(SHDR_SIZE)
        .and_then(|offset| table.checked_add(offset))
        .ok_or("section header table out of range")?;
    let name = read_u32(data, header)?;
    let kind = read_u32(data, header + 4)?;
    if kind == SHT_NOBITS {
        return Ok((name, kind, &[]));
    }
    let offset = read_offset(data, header + 0x18)?;
    let size = read_offset(data, header + 0x20)?;
    let body = offset
        .checked_add(size)
        .and_then(|end| data.get(offset..end))
        .ok_or_else(|| format!("section {index} lies outside the file"))?;
    Ok((name, kind, body))
}

/// Returns the BTF held by `file`.
///
/// # Errors
///
/// Says what is wrong with a file that is neither BTF nor a 64-bit little-endian ELF file with
/// exactly one `.BTF` section.
pub(crate) fn btf_section(file: &[u8]) -> Result<&[u8], String> {
    if btf::is_btf(file) {
        return Ok(file);
    }
    if !file.starts_with(b"\x7fELF") {
        return Err("neither an ELF file nor BTF".into());
    }
    if file.get(4..6) != Some(&[2, 1]) {
        return Err("not a 64-bit little-endian ELF file".into());
    }
    if read_u16(file, EHDR_SHENTSIZE)? != SHDR_SIZE {
        return Err("unexpected size of an ELF section header".into());
    }
    let table = read_offset(file, EHDR_SHOFF)?;
    let count = read_u16(file, EHDR_SHNUM)?;
    let (_, _, names) = section(file, table, read_u16(file, EHDR_SHSTRNDX)?)?;
    let mut found = None;
    for index in 0..count {
        let (name, _, body) = section(file, table, index)?;
        let name = usize::try_from(name)
            .ok()
            .and_then(|n| names.get(n..))
            .unwrap_or(&[]);
        if name.starts_with(b".BTF\0") && found.replace(body).is_some() {
            return Err("two .BTF sections".into());
        }
    }
    match found {
        Some(body) if btf::is_btf(body) => Ok(body),
        Some(_) => Err("its .BTF section holds no BTF".into()),
        None => Err("no .BTF section: was the kernel built with CONFIG_DEBUG_INFO_BTF=y?".into()),
    }
}
