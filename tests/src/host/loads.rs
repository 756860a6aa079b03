// SPDX-License-Identifier: GPL-2.0-only
//! How the kernel reads what the module changes under it: in the code of the distribution's own images.
//!
//! The kernel's source reads these fields plainly, as if nobody changed them meanwhile. The compiler could read such a field in
//! halves, or once more; that it does not is what makes the module's stores right, so it is looked at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context as _, Result};

use crate::host::build::arch::Arch;
use crate::host::build::cache::Cache;
use crate::host::build::chroot::{self, Chroot};
use crate::host::build::command::Log;
use crate::host::build::kernel::Kernel;
use crate::host::build::kernel_image::{machine, Image};
use crate::host::build::progress::{say, step};
use crate::host::build::toolchain::Toolchain;

/// The reader of the kernel's types that the module's build has.
#[path = "../../../kmod/layoutgen/btf.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod btf;

/// A read of a field that the module changes.
struct Read {
    /// The kernel's function that reads it.
    function: &'static str,
    /// Which of its parameters the way begins at.
    parameter: usize,
    /// What is embedded in the structure that is meant, and where the parameter points to; the structure itself, if empty.
    within: (&'static str, &'static str),
    /// Pointers on the way, then the field: each a structure and a field of it.
    way: &'static [(&'static str, &'static str)],
    /// The size of the field in bytes.
    size: u8,
    /// How often it may be read: once, where what was read first and what is read then must be the same.
    once: bool,
    /// The architectures whose kernels read it.
    arches: &'static [Arch],
}

const ALL: &[Arch] = &[Arch::X86_64, Arch::Arm64];
/// Those whose IOMMU drivers are on the generic page table.
const GENERIC: &[Arch] = &[Arch::X86_64];

const READS: &[Read] = &[
    Read {
        function: "__iommu_unmap",
        parameter: 0,
        within: ("pt_iommu", "domain"),
        way: &[("pt_iommu", "ops")],
        size: 8,
        once: true,
        arches: GENERIC,
    },
    Read {
        function: "__iommu_unmap",
        parameter: 0,
        within: ("", ""),
        way: &[("iommu_domain", "ops")],
        size: 8,
        once: true,
        arches: ALL,
    },
    Read {
        function: "iommu_map_nosync",
        parameter: 0,
        within: ("pt_iommu", "domain"),
        way: &[("pt_iommu", "ops")],
        size: 8,
        once: true,
        arches: GENERIC,
    },
    Read {
        function: "iommu_map_nosync",
        parameter: 0,
        within: ("", ""),
        way: &[("iommu_domain", "ops")],
        size: 8,
        once: true,
        arches: ALL,
    },
    // Of the table it takes what is the same in both: the driver's own function.
    Read {
        function: "iommu_unmap",
        parameter: 0,
        within: ("", ""),
        way: &[("iommu_domain", "ops")],
        size: 8,
        once: false,
        arches: ALL,
    },
    Read {
        function: "iommu_group_attr_store",
        parameter: 1,
        within: ("iommu_group_attribute", "attr"),
        way: &[("iommu_group_attribute", "store")],
        size: 8,
        once: true,
        arches: ALL,
    },
    Read {
        function: "iommu_group_show_type",
        parameter: 0,
        within: ("", ""),
        way: &[("iommu_group", "default_domain"), ("iommu_domain", "type")],
        size: 4,
        once: true,
        arches: ALL,
    },
];

impl Read {
    /// What is read, for people.
    fn field(&self) -> String {
        let (structure, field) = self.way.last().copied().unwrap_or_default();
        format!("{structure}.{field} in {}()", self.function)
    }

    /// The distances on the way, from what each pointer points to.
    fn distances(&self, types: &btf::Btf<'_>) -> Result<Vec<i64>> {
        let offset = |structure: &str, field: &str| {
            let found = types.field(structure, field).map_err(anyhow::Error::msg)?;
            Ok::<_, anyhow::Error>(i64::try_from(found.offset)?)
        };
        let mut distances = Vec::new();
        for (structure, field) in self.way {
            distances.push(offset(structure, field)?);
        }
        let (structure, field) = self.within;
        if let (false, Some(first)) = (structure.is_empty(), distances.first_mut()) {
            *first -= offset(structure, field)?;
        }
        Ok(distances)
    }

    /// Looks at the code of the function.
    ///
    /// The register, or place on the stack, that has a pointer is followed through every copy, wherever in the function that
    /// is: it may be taken for a pointer that it is not, and never the other way round.
    fn check(&self, arch: Arch, distances: &[i64], code: &[Instruction]) -> Result<()> {
        let parameter = match arch {
            Arch::X86_64 => ["rdi", "rsi", "rdx", "rcx"][self.parameter].to_owned(),
            Arch::Arm64 => format!("x{}", self.parameter),
        };
        let mut pointers = copies(code, BTreeSet::from([parameter]));
        let Some((field, way)) = distances.split_last() else {
            bail!("there is no way to {}", self.field());
        };
        for distance in way {
            let next = code.iter().filter_map(|instruction| {
                let read = instruction.access.as_ref()?;
                let is_next = pointers.contains(&read.base) && read.distance == *distance;
                (is_next && read.is_read).then(|| instruction.into.clone())?
            });
            pointers = copies(code, next.collect());
        }
        let end = field + i64::from(self.size);
        let accesses: Vec<_> = code
            .iter()
            .filter_map(|instruction| instruction.access.as_ref().map(|a| (a, instruction)))
            .filter(|(access, _)| pointers.contains(&access.base))
            .filter(|(access, _)| {
                access.distance < end && access.distance + i64::from(access.size) > *field
            })
            .collect();
        for (access, instruction) in &accesses {
            ensure!(
                access.distance == *field
                    && access.size == self.size
                    && access.is_read
                    && field % i64::from(self.size) == 0,
                "{} is not read by one aligned load: {}",
                self.field(),
                instruction.text
            );
        }
        match accesses.len() {
            0 => bail!(
                "{} is not read at all, or in a way that is not known here",
                self.field()
            ),
            1 => Ok(()),
            _ if !self.once => Ok(()),
            times => bail!("{} is read {times} times", self.field()),
        }
    }
}

/// One instruction, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Instruction {
    text: String,
    /// The memory it accesses.
    access: Option<Access>,
    /// The register, or place on the stack, that it writes, if it is a copy or a load.
    into: Option<String>,
    /// Where the copy is from.
    from: Option<String>,
}

/// An access of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Access {
    base: String,
    distance: i64,
    size: u8,
    /// Whether it is one read, and nothing else.
    is_read: bool,
}

impl Access {
    /// A place on the stack, by name.
    fn place(&self) -> Option<String> {
        let is_stack = ["rsp", "rbp", "sp", "x29"].contains(&self.base.as_str());
        is_stack.then(|| format!("{}+{}", self.base, self.distance))
    }
}

/// All registers, and places on the stack, to which what is in `found` is copied.
fn copies(code: &[Instruction], mut found: BTreeSet<String>) -> BTreeSet<String> {
    loop {
        let before = found.len();
        for instruction in code {
            if let (Some(into), Some(from)) = (&instruction.into, &instruction.from) {
                if found.contains(from) {
                    found.insert(into.clone());
                }
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// Reads what objdump says: an address, a tab, a mnemonic, and operands.
fn instructions(arch: Arch, listing: &str) -> Result<Vec<Instruction>> {
    let mut code = Vec::new();
    for line in listing.lines() {
        let Some((_, text)) = line.split_once(":\t") else {
            continue;
        };
        let comment = match arch {
            Arch::X86_64 => "#",
            Arch::Arm64 => "//",
        };
        let text = text.split(comment).next().unwrap_or_default().trim();
        let (mnemonic, operands) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let operands = split(operands);
        let parsed = match arch {
            Arch::X86_64 => x86(mnemonic, &operands),
            Arch::Arm64 => arm(mnemonic, &operands),
        };
        let parsed = parsed.with_context(|| format!("an instruction is not understood: {text}"))?;
        code.extend(parsed.into_iter().map(|(access, into, from)| Instruction {
            text: text.to_owned(),
            access,
            into,
            from,
        }));
    }
    ensure!(!code.is_empty(), "objdump found no instruction");
    Ok(code)
}

/// Operands, which are separated by commas; those in brackets are one.
fn split(text: &str) -> Vec<String> {
    let mut operands = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        match (c, operands.last_mut()) {
            (',', _) if depth == 0 => operands.push(String::new()),
            (c, Some(last)) => last.push(c),
            _ => {}
        }
    }
    operands.iter().map(|o| o.trim().to_owned()).collect()
}

/// What an instruction accesses, writes and copies.
type Parsed = (Option<Access>, Option<String>, Option<String>);

/// An instruction of x86-64, in Intel's notation.
fn x86(mnemonic: &str, operands: &[String]) -> Option<Vec<Parsed>> {
    if matches!(mnemonic, "lea" | "nop" | "nopw" | "cs" | "data16") {
        return Some(vec![(None, None, None)]);
    }
    let memory = operands
        .iter()
        .position(|o| o.contains('[') && !o.contains("gs:"));
    let register = |index: usize| operands.get(index).and_then(|o| whole(o));
    let Some(at) = memory else {
        let (into, from) = match mnemonic {
            "mov" | "movabs" => (register(0), register(1)),
            _ => (None, None),
        };
        return Some(vec![(None, into, from)]);
    };
    let (size, place) = operands[at].split_once(" PTR ")?;
    let size = match size {
        "BYTE" => 1,
        "WORD" => 2,
        "DWORD" => 4,
        "QWORD" => 8,
        _ => 16,
    };
    let inside = place.split(['[', ']']).nth(1)?;
    let is_read = match mnemonic {
        "mov" | "movzx" | "movsxd" | "movsx" => at == 1,
        "cmp" | "test" | "bt" | "call" | "jmp" | "push" | "add" | "sub" | "and" | "or" | "xor" => {
            at == 1 || matches!(mnemonic, "cmp" | "test" | "bt" | "call" | "jmp" | "push")
        }
        _ => mnemonic.starts_with("cmov"),
    };
    // A register plus a number; what has an index is no field.
    let sign = inside.rfind(['+', '-']);
    let (base, distance) = match sign {
        None => (inside, 0),
        Some(sign) => {
            let value = inside[sign + 1..].strip_prefix("0x")?;
            let value = i64::from_str_radix(value, 16).ok()?;
            let negative = inside[sign..].starts_with('-');
            (&inside[..sign], if negative { -value } else { value })
        }
    };
    let base = base.to_owned();
    let access = Access {
        base,
        distance,
        size,
        is_read,
    };
    let (into, from) = match (mnemonic, at) {
        ("mov", 1) => (register(0), access.place()),
        ("mov", 0) => (access.place(), register(1)),
        _ => (None, None),
    };
    Some(vec![(Some(access), into, from)])
}

/// The whole register of a name that may be that of a part; `None` for what is no register.
fn whole(name: &str) -> Option<String> {
    let of_eight = ["ax", "bx", "cx", "dx", "si", "di", "bp", "sp"];
    let known = |rest: &str| of_eight.contains(&rest).then(|| format!("r{rest}"));
    let numbered = name.strip_prefix('r').and_then(|rest| {
        let digits = rest.trim_end_matches(['d', 'w', 'b']);
        digits.parse::<u8>().ok().map(|n| format!("r{n}"))
    });
    let rest = name.strip_prefix(['r', 'e']);
    numbered.or_else(|| known(rest.unwrap_or(name)))
}

/// An instruction of arm64. One that accesses two words is two.
fn arm(mnemonic: &str, operands: &[String]) -> Option<Vec<Parsed>> {
    let register = |name: &String| {
        let rest = name.strip_prefix(['x', 'w'])?;
        rest.parse::<u8>().ok().map(|n| format!("x{n}"))
    };
    let Some(at) = operands.iter().position(|o| o.starts_with('[')) else {
        let (into, from) = match (mnemonic, operands) {
            ("mov", [into, from]) => (register(into), register(from)),
            _ => (None, None),
        };
        return Some(vec![(None, into, from)]);
    };
    let parts = split(operands[at].trim_matches(['[', ']', '!']));
    let base = parts.first()?.clone();
    let base = base.trim_end_matches(']').to_owned();
    let distance = match parts.get(1).map(|p| p.trim_end_matches(']')) {
        None => 0,
        Some(number) => match number.strip_prefix('#').map(str::parse) {
            Some(number) => number.ok()?,
            // An index: no field.
            None => return Some(vec![(None, None, None)]),
        },
    };
    let width = |name: &String| if name.starts_with('x') { 8 } else { 4 };
    let is_load = mnemonic.starts_with("ld");
    let simple = matches!(
        mnemonic,
        "ldr" | "ldrb" | "ldrh" | "ldrsw" | "ldur" | "ldp" | "ldar" | "ldapr"
    );
    let mut distance = distance;
    let mut parsed = Vec::new();
    for name in &operands[..at] {
        let size = match mnemonic {
            "ldrb" | "strb" | "ldurb" | "sturb" => 1,
            "ldrh" | "strh" | "ldurh" | "sturh" => 2,
            "ldrsw" => 4,
            _ => width(name),
        };
        let access = Access {
            base: base.clone(),
            distance,
            size,
            is_read: is_load && simple,
        };
        let (into, from) = match is_load {
            true => (register(name), access.place()),
            false => (access.place(), register(name)),
        };
        distance += i64::from(size);
        parsed.push((Some(access), into, from));
    }
    Some(parsed)
}

/// The program that disassembles for `arch`, as seen from the root.
fn objdump(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "usr/bin/objdump",
        Arch::Arm64 => "usr/bin/aarch64-linux-gnu-objdump",
    }
}

/// Has the root have what unpacks kernels, and what disassembles those of others.
fn ensure_tools(cache: &Cache, root: &Chroot, log: &Log) -> Result<()> {
    const PACKAGES: [&str; 2] = ["binutils-aarch64-linux-gnu", "zstd"];
    let programs = [objdump(Arch::Arm64), "usr/bin/zstd"];
    let is_there = |program: &&str| root.outside(&format!("/{program}")).exists();
    if programs.iter().all(is_there) {
        return Ok(());
    }
    let _lock = cache.lock()?;
    let title = format!("installing {}", PACKAGES.join(" and "));
    step(&title, || root.install(log, &PACKAGES, None))
}

/// Looks at every read in the image of one kernel.
fn look(root: &Chroot, log: &Log, arch: Arch, release: &str, file: &Path) -> Result<()> {
    let image = Image::open(root, log, file)?;
    let types = btf::Btf::parse(image.types()?).map_err(anyhow::Error::msg)?;
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let path = folder.path().join("code");
    let mut seen = 0;
    for read in READS.iter().filter(|read| read.arches.contains(&arch)) {
        let (address, code) = image.code(read.function)?;
        std::fs::write(&path, code).with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = root.tool(objdump(arch));
        command
            .args(["-D", "-b", "binary", "-m", machine(arch)])
            .args(["--no-show-raw-insn", &format!("--adjust-vma={address:#x}")])
            .args(
                (arch == Arch::X86_64)
                    .then_some(["-M", "intel"])
                    .into_iter()
                    .flatten(),
            )
            .arg(&path);
        let code = instructions(arch, &log.capture(&mut command)?)?;
        let distances = read.distances(&types)?;
        read.check(arch, &distances, &code)?;
        seen += 1;
    }
    say(&format!(
        "   {release}: {seen} reads, each one aligned load of the whole field"
    ));
    Ok(())
}

/// Looks at the kernels that are tested: the newest, and that of the series before, for each architecture. One whose image
/// cannot be fetched is left out, and named.
///
/// # Errors
/// When a read is another one than the module relies on, or an image is made in a way that is not known here.
pub fn run() -> Result<()> {
    let toolchain = Toolchain::ensure()?;
    let (cache, root) = (&toolchain.cache, &toolchain.root);
    let log = cache.log("loads")?;
    ensure_tools(cache, root, &log)?;
    let newest = &toolchain.kernel;
    let mut kernels = vec![newest.clone(), newest.variant("rt")?];
    kernels.push(newest.on(Arch::Arm64)?);
    if let Ok(previous) = Kernel::previous(root, &log, newest) {
        kernels.push(previous.on(Arch::Arm64)?);
        kernels.push(previous);
    }
    for kernel in kernels {
        let release = &kernel.release;
        match image(cache, root, &log, &kernel) {
            Ok(file) => look(root, &log, kernel.arch, release, &file)
                .with_context(|| format!("kernel {release}"))?,
            Err(error) => say(&format!(
                "   {release}: not looked at, for its image cannot be had\n   ({error:#})"
            )),
        }
    }
    Ok(())
}

/// The image of a kernel. If it is not there, its package is fetched alone: without modules and headers it is small.
fn image(cache: &Cache, root: &Chroot, log: &Log, kernel: &Kernel) -> Result<PathBuf> {
    let whole = kernel.image(cache);
    if whole.exists() {
        return Ok(whole);
    }
    let release = &kernel.release;
    let folder = format!("/build/images/{release}");
    let file = root.outside(&format!("{folder}/usr/lib/modules/{release}/vmlinuz"));
    if file.exists() {
        return Ok(file);
    }
    let _lock = cache.lock()?;
    step(&format!("fetching the image of {release}"), || {
        root.refresh_resolver(log)?;
        // With lists of its own: the root need not know other architectures.
        let script = "rm -rf \"$1\" \"$1.half\" && mkdir -p \"$1.half/lists/partial\" && cd \"$1.half\" && \
             printf '%s\\n' \"$2\" > sources.list && \
             own() { apt-get -o Dir::Etc::SourceList=$PWD/sources.list -o Dir::Etc::SourceParts=- \
               -o Dir::State::Lists=$PWD/lists -o Dir::State::Status=/dev/null -o Dir::Cache::pkgcache= \
               -o Dir::Cache::srcpkgcache= -o APT::Architecture=\"$arch\" -o APT::Architectures=\"$arch\" \
               -o APT::Update::Error-Mode=any \"$@\"; } && arch=$4 && \
             own update && own download \"$3\" && dpkg-deb -x *.deb . && rm -rf lists *.deb && \
             chmod -R a+rX . && mv \"$1.half\" \"$1\"";
        let source = chroot::source(root.release().newest());
        let package = format!("linux-binary-{release}={}", kernel.version);
        let arguments = [
            "-c",
            script,
            "sh",
            &folder,
            &source,
            &package,
            kernel.arch.debian(),
        ];
        log.run(&mut root.command("sh", arguments))
    })?;
    ensure!(file.exists(), "the package has no {}", file.display());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = "\
ffffffff81d827a0:\tendbr64
ffffffff81d827a4:\tcall   0xffffffff8132e4f0
ffffffff81d827a9:\tmov    rax,rsi
ffffffff81d827ac:\tmov    rsi,rdx
ffffffff81d827b2:\tmov    rax,QWORD PTR [rax+0x18]
ffffffff81d827b6:\ttest   rax,rax
ffffffff81d827bb:\tjmp    0xffffffff821cb780
";
    const SHOW: &str = "\
  d38ad0:\tpaciasp
  d38ad4:\tstp\tx29, x30, [sp, #-48]!
  d38ae0:\tmov\tx19, x0
  d38ae4:\tstr\tx19, [sp, #40]
  d38af0:\tldr\tx20, [sp, #40]
  d38af8:\tldr\tx0, [x20, #160]
  d38b00:\tldr\tw0, [x0]
  d38b04:\tcmp\tw0, #0x3
  d38b08:\tb.eq\t0xd38ba8  // b.none
";

    fn read(function: &str) -> &'static Read {
        READS.iter().find(|read| read.function == function).unwrap()
    }

    fn store(listing: &str) -> Result<()> {
        let code = instructions(Arch::X86_64, listing)?;
        read("iommu_group_attr_store").check(Arch::X86_64, &[24], &code)
    }

    fn show(listing: &str) -> Result<()> {
        let code = instructions(Arch::Arm64, listing)?;
        read("iommu_group_show_type").check(Arch::Arm64, &[160, 0], &code)
    }

    fn says(result: &Result<()>, text: &str) {
        let said = result
            .as_ref()
            .map_or_else(|error| format!("{error:#}"), |()| "nothing".to_owned());
        assert!(said.contains(text), "{said:?} is not {text:?}");
    }

    #[test]
    fn one_load_of_the_whole_field_is_right() {
        store(STORE).unwrap();
        show(SHOW).unwrap();
        // Where it is called through memory, that is the load.
        store(&STORE.replace("mov    rax,QWORD PTR", "call   QWORD PTR")).unwrap();
    }

    #[test]
    fn anything_else_is_not() {
        let part = |text: &str| store(&STORE.replace("rax,QWORD PTR [rax+0x18]", text));
        says(&part("eax,DWORD PTR [rax+0x18]"), "one aligned load");
        says(&part("al,BYTE PTR [rax+0x1f]"), "one aligned load");
        says(&part("QWORD PTR [rax+0x18],rdx"), "one aligned load");
        says(&part("rax,QWORD PTR [rax+0x20]"), "not read at all");
        let twice = STORE.replace("test   rax,rax", "mov    rdx,QWORD PTR [rsi+0x18]");
        says(&store(&twice), "read 2 times");
        let shifted = instructions(Arch::X86_64, &STORE.replace("+0x18", "+0x1c")).unwrap();
        let found = read("iommu_group_attr_store").check(Arch::X86_64, &[28], &shifted);
        says(&found, "one aligned load");
        let part = |text: &str| show(&SHOW.replace("ldr\tw0, [x0]", text));
        says(&part("ldrb\tw0, [x0]"), "one aligned load");
        says(&part("ldp\tw0, w1, [x0, #-4]"), "nothing");
        says(&part("ldrh\tw0, [x0, #2]"), "one aligned load");
        says(&part("ldxr\tw0, [x0]"), "one aligned load");
        says(&part("ldr\tw0, [x1]"), "not read at all");
    }

    #[test]
    fn a_pointer_is_followed_over_the_stack() {
        let moved = STORE
            .replace("mov    rax,rsi", "mov    QWORD PTR [rsp+0x8],rsi")
            .replace("mov    rsi,rdx", "mov    rax,QWORD PTR [rsp+0x8]");
        store(&moved).unwrap();
    }

    #[test]
    fn parts_of_registers_are_known() {
        for (part, register) in [("eax", "rax"), ("r10d", "r10"), ("si", "rsi"), ("r9", "r9")] {
            assert_eq!(whole(part).as_deref(), Some(register));
        }
        assert_eq!(whole("0x10"), None);
        assert_eq!(whole("r"), None);
    }
}
