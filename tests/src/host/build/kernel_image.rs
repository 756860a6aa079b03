// SPDX-License-Identifier: GPL-2.0-only
//! What is in a kernel's image: its code, by the names that the kernel itself knows (`scripts/kallsyms.c`), and its types.
//!
//! The distribution's packages have no other names: its `System.map` is in a package of a gigabyte.

use std::path::Path;

use anyhow::{bail, ensure, Context as _, Result};

use crate::host::build::arch::Arch;
use crate::host::build::chroot::Chroot;
use crate::host::build::command::Log;

/// What raw BTF of these kernels begins with: magic, version, flags, and the length of its header.
const BTF: [u8; 8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
/// Tokens of names: one for each value of a byte.
const TOKENS: usize = 256;

/// A kernel's image, unpacked.
pub struct Image {
    bytes: Vec<u8>,
    /// Parts that are loaded: where they are in `bytes`, their address, and their length.
    parts: Vec<(usize, u64, usize)>,
    /// In the order of their addresses.
    symbols: Vec<Symbol>,
}

/// Something that has a name.
#[derive(Debug, PartialEq, Eq)]
struct Symbol {
    address: u64,
    name: String,
}

impl Image {
    /// Unpacks the image in `file`.
    ///
    /// # Errors
    /// When it is packed, or made, in a way that is not known here.
    pub fn open(root: &Chroot, log: &Log, file: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let bytes = match payload(&bytes)? {
            None => bytes,
            Some(packed) => unpack(root, log, packed)?,
        };
        Self::parse(bytes).with_context(|| format!("in {}", file.display()))
    }

    fn parse(bytes: Vec<u8>) -> Result<Self> {
        let parts = parts(&bytes)?;
        let symbols = symbols(&bytes, &parts)?;
        Ok(Self {
            bytes,
            parts,
            symbols,
        })
    }

    /// The code of the function `name`; an error unless there is one of that name.
    ///
    /// # Errors
    /// See above.
    pub fn code(&self, name: &str) -> Result<(u64, &[u8])> {
        let mut named = self.symbols.iter().filter(|symbol| symbol.name == name);
        let (Some(symbol), None) = (named.next(), named.next()) else {
            bail!("the kernel has not one function {name}, but none or more");
        };
        let start = symbol.address;
        let next = self.symbols.partition_point(|s| s.address <= start);
        let end = self.symbols.get(next).map_or(start, |s| s.address);
        let code = self
            .parts
            .iter()
            .find_map(|&(at, address, length)| {
                let from = usize::try_from(start.checked_sub(address)?).ok()?;
                let to = usize::try_from(end.checked_sub(address)?).ok()?;
                (to <= length).then(|| self.bytes.get(at + from..at + to))?
            })
            .with_context(|| format!("{name} lies outside the image"))?;
        ensure!(!code.is_empty(), "{name} has no end");
        Ok((start, code))
    }

    /// The kernel's types, in BTF.
    ///
    /// # Errors
    /// When it has none.
    pub fn types(&self) -> Result<&[u8]> {
        let mut from = 0;
        while let Some(at) = find(&self.bytes[from..], &BTF).map(|at| from + at) {
            let word = |index: usize| {
                let bytes = self.bytes.get(at + 4 * index..)?.first_chunk::<4>()?;
                usize::try_from(u32::from_le_bytes(*bytes)).ok()
            };
            // Types, then strings, which end the whole.
            if let (Some(types), Some(strings), Some(length)) = (word(3), word(4), word(5)) {
                let end = at + 24 + strings + length;
                if types == strings && end <= self.bytes.len() {
                    return Ok(&self.bytes[at..end]);
                }
            }
            from = at + 1;
        }
        bail!("the image has no BTF");
    }
}

/// The packed kernel in an image that unpacks itself; `None` if it is not packed.
fn payload(image: &[u8]) -> Result<Option<&[u8]>> {
    // Documentation/arch/x86/boot.rst; Documentation/arch/arm64/booting.rst.
    if image.get(0x202..0x206) == Some(b"HdrS") {
        let sectors = match image[0x1f1] {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let word = |at: usize| {
            let bytes = image.get(at..).and_then(|rest| rest.first_chunk::<4>());
            let bytes = bytes.context("the image ends in its header")?;
            Ok::<_, anyhow::Error>(usize::try_from(u32::from_le_bytes(*bytes))?)
        };
        let start = (sectors + 1) * 512 + word(0x248)?;
        // Behind it is its length when it is unpacked.
        let end = start + word(0x24c)?.saturating_sub(4);
        let packed = image.get(start..end);
        return packed
            .map(Some)
            .context("the packed kernel lies outside the image");
    }
    ensure!(
        image.get(0x38..0x3c) == Some(b"ARM\x64") || image.starts_with(b"\x7fELF"),
        "neither a bzImage, nor an Image of arm64, nor an ELF file"
    );
    Ok(None)
}

fn unpack(root: &Chroot, log: &Log, packed: &[u8]) -> Result<Vec<u8>> {
    let program = match packed {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0xfd, b'7', b'z', ..] => "xz",
        [0x1f, 0x8b, ..] => "gzip",
        _ => bail!("the kernel is packed in a way that is not known here"),
    };
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let (from, to) = (folder.path().join("packed"), folder.path().join("kernel"));
    std::fs::write(&from, packed).context("cannot write the packed kernel")?;
    let output = std::fs::File::create(&to).context("cannot make a file for the kernel")?;
    let mut command = root.tool(&format!("usr/bin/{program}"));
    let status = command
        .args(["-d", "-c"])
        .arg(&from)
        .stdout(output)
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(
        status.success(),
        "{program} cannot unpack the kernel; log: {}",
        log.path().display()
    );
    std::fs::read(&to).context("cannot read the unpacked kernel")
}

/// The parts of a kernel that are loaded: sections of an ELF file, or all of an Image, whose addresses are then from its
/// beginning.
fn parts(bytes: &[u8]) -> Result<Vec<(usize, u64, usize)>> {
    const NOBITS: u32 = 8;
    const ALLOCATED: u64 = 2;
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(vec![(0, 0, bytes.len())]);
    }
    let number = |at: usize, length: usize| {
        let mut value = [0; 8];
        let field = bytes
            .get(at..at + length)
            .context("the ELF file is not whole")?;
        value[..length].copy_from_slice(field);
        Ok::<_, anyhow::Error>(u64::from_le_bytes(value))
    };
    let (table, count) = (usize::try_from(number(0x28, 8)?)?, number(0x3c, 2)?);
    let mut parts = Vec::new();
    for index in 0..usize::try_from(count)? {
        let header = table + 64 * index;
        let kind = u32::try_from(number(header + 4, 4)?)?;
        if kind == NOBITS || number(header + 8, 8)? & ALLOCATED == 0 {
            continue;
        }
        let at = usize::try_from(number(header + 0x18, 8)?)?;
        let length = usize::try_from(number(header + 0x20, 8)?)?;
        parts.push((at, number(header + 0x10, 8)?, length));
    }
    Ok(parts)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The table of tokens: where it begins, where what follows it does, and the tokens.
struct Tokens<'a> {
    start: usize,
    end: usize,
    texts: Vec<&'a [u8]>,
}

/// Finds the tokens: among them is each digit by itself, and behind them is a table of where each begins.
fn tokens(bytes: &[u8]) -> Result<Tokens<'_>> {
    const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";
    let mut from = 0;
    while let Some(at) = find(&bytes[from..], DIGITS).map(|at| from + at) {
        from = at + 1;
        let Some(start) = back_by(bytes, at, usize::from(b'0')) else {
            continue;
        };
        let mut texts = Vec::with_capacity(TOKENS);
        let (mut next, mut index) = (start, Vec::with_capacity(2 * TOKENS));
        while texts.len() < TOKENS {
            let Some(length) = bytes[next..].iter().position(|b| *b == 0) else {
                break;
            };
            let Ok(offset) = u16::try_from(next - start) else {
                break;
            };
            index.extend(offset.to_le_bytes());
            texts.push(&bytes[next..next + length]);
            next += length + 1;
        }
        let behind = (next..next + 8).find(|at| bytes[*at..].starts_with(&index));
        if let (Some(behind), TOKENS) = (behind, texts.len()) {
            let end = behind + index.len();
            return Ok(Tokens { start, end, texts });
        }
    }
    bail!("the kernel's names are not where they were looked for");
}

/// Where the string begins that is `count` strings before the one at `at`.
fn back_by(bytes: &[u8], at: usize, count: usize) -> Option<usize> {
    let mut start = at;
    for _ in 0..count {
        let end = start.checked_sub(1).filter(|end| bytes[*end] == 0)?;
        start = bytes[..end].iter().rposition(|b| *b == 0)? + 1;
    }
    Some(start)
}

/// The 32-bit word at `at`.
fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    Ok(u32::from_le_bytes(
        *found.context("the image ends in the middle of its names")?,
    ))
}

/// Where each 256th name begins, from the first one; and where that list is, which ends before `end`.
fn markers(bytes: &[u8], end: usize) -> Result<(usize, Vec<usize>)> {
    for end in (end.saturating_sub(8)..=end).rev() {
        let mut markers = Vec::new();
        let mut at = end;
        while let Some(before) = at.checked_sub(4) {
            let offset = usize::try_from(word(bytes, before)?)?;
            if markers.last().is_some_and(|last| offset >= *last) {
                break;
            }
            at = before;
            markers.push(offset);
            if offset == 0 {
                markers.reverse();
                return Ok((at, markers));
            }
        }
    }
    bail!("the list of the kernel's names has no beginning");
}

/// The length of the name at `at`, and where it begins.
fn name_at(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let low = usize::from(*bytes.get(at)?);
    if low & 0x80 == 0 {
        return Some((low, at + 1));
    }
    let high = usize::from(*bytes.get(at + 1)?);
    Some((low & 0x7f | high << 7, at + 2))
}

/// Where the names begin, packed, if there are as many as the word before `at` says, and each marker is right.
fn names(bytes: &[u8], at: usize, markers: &[usize]) -> Option<Vec<(usize, usize)>> {
    let count = usize::try_from(word(bytes, at.checked_sub(4)?).ok()?).ok()?;
    if count.div_ceil(256) != markers.len() {
        return None;
    }
    let (mut names, mut next) = (Vec::with_capacity(count), at);
    for index in 0..count {
        if index % 256 == 0 && next - at != markers[index / 256] {
            return None;
        }
        let (length, start) = name_at(bytes, next)?;
        next = start + length;
        names.push((start, length));
    }
    Some(names)
}

/// All names with their addresses.
fn symbols(bytes: &[u8], parts: &[(usize, u64, usize)]) -> Result<Vec<Symbol>> {
    let tokens = tokens(bytes)?;
    let (end, markers) = markers(bytes, tokens.start)?;
    // Behind the last marker are at most 256 names, of at most 512 bytes each.
    let last = markers.last().copied().unwrap_or_default();
    let first = end.saturating_sub(last + 256 * 514);
    let names = (first..=end.saturating_sub(last))
        .rev()
        .find_map(|at| names(bytes, at, &markers))
        .context("the kernel's names are not where they should be")?;
    // Each address is a distance from its own place.
    let addresses = |start: usize| -> Option<Vec<u64>> {
        let part = |(at, _, length): &&(usize, u64, usize)| (*at..at + length).contains(&start);
        let (at, address, _) = parts.iter().find(part)?;
        let mut addresses = Vec::with_capacity(names.len());
        for index in 0..names.len() {
            let place = start + 4 * index;
            let distance = i32::from_le_bytes(word(bytes, place).ok()?.to_le_bytes());
            let here = address + u64::try_from(place - at).ok()?;
            let there = here.wrapping_add_signed(distance.into());
            if addresses.last().is_some_and(|before| there < *before) {
                return None;
            }
            addresses.push(there);
        }
        Some(addresses)
    };
    let addresses = (tokens.end..tokens.end + 8)
        .find_map(addresses)
        .context("the addresses of the kernel's names are not where they should be")?;
    let symbols = names.iter().zip(addresses).map(|(&(at, length), address)| {
        let packed = &bytes[at..at + length];
        let text: Vec<u8> = packed
            .iter()
            .flat_map(|token| tokens.texts[usize::from(*token)])
            .copied()
            .collect();
        // The first character is the kind of symbol.
        let name = String::from_utf8_lossy(text.get(1..).unwrap_or_default()).into_owned();
        Symbol { address, name }
    });
    Ok(symbols.collect())
}

/// The architecture's name, as objdump has it.
pub fn machine(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "i386:x86-64",
        Arch::Arm64 => "aarch64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Image whose names are `count` functions of sixteen bytes, packed as the kernel's build does it.
    fn image(count: u32) -> Vec<u8> {
        let mut image = vec![0u8; 64];
        image[0x38..0x3c].copy_from_slice(b"ARM\x64");
        image.resize(16 * usize::try_from(count).unwrap(), 0x90);
        let mut add = |bytes: &[u8]| {
            let at = image.len();
            image.extend(bytes);
            at
        };
        add(&count.to_le_bytes());
        let mut markers = Vec::new();
        let mut length = 0u32;
        for index in 0..count {
            if index % 256 == 0 {
                markers.extend(length.to_le_bytes());
            }
            // Two tokens stand for more than a letter.
            let padding = if index == 7 { 200 } else { 0 };
            let name = format!("t\x01{index}{}", "x".repeat(padding));
            let size = u8::try_from(name.len() & 0x7f).unwrap();
            let mut packed = match name.len() < 0x80 {
                true => vec![size],
                false => vec![size | 0x80, u8::try_from(name.len() >> 7).unwrap()],
            };
            packed.extend(name.as_bytes());
            length += u32::try_from(packed.len()).unwrap();
            add(&packed);
        }
        // Aligned.
        let padding = (4 - length % 4) % 4;
        add(&vec![0; usize::try_from(padding).unwrap()]);
        add(&markers);
        let (mut texts, mut offsets) = (Vec::new(), Vec::new());
        for token in 0..=255u8 {
            offsets.extend(u16::try_from(texts.len()).unwrap().to_le_bytes());
            match token {
                1 => texts.extend(b"function_"),
                b' '..=b'~' => texts.push(token),
                _ => texts.extend(b"??"),
            }
            texts.push(0);
        }
        add(&texts);
        let padding = (4 - texts.len() % 4) % 4;
        add(&vec![0; padding]);
        let mut at = i32::try_from(add(&offsets) + offsets.len()).unwrap();
        for index in 0..i32::try_from(count).unwrap() {
            add(&(16 * index - at).to_le_bytes());
            at += 4;
        }
        image
    }

    #[test]
    fn functions_are_found_by_name() {
        let image = Image::parse(image(700)).unwrap();
        assert_eq!(image.symbols.len(), 700);
        let (address, code) = image.code("function_300").unwrap();
        assert_eq!((address, code.len()), (4800, 16));
        let long = format!("function_7{}", "x".repeat(200));
        assert_eq!(image.code(&long).unwrap().0, 112);
        assert!(image.code("function_700").is_err());
        assert!(image.types().is_err());
    }

    #[test]
    fn what_is_no_image_is_an_error() {
        assert!(payload(b"#!/bin/sh").is_err());
        let whole = image(300);
        for length in [0, 100, whole.len() - 1300, whole.len() - 4] {
            assert!(Image::parse(whole[..length].to_vec()).is_err(), "{length}");
        }
    }
}
