// SPDX-License-Identifier: GPL-2.0-only

//! Writes `src/layout_generated.rs`: where the target kernel keeps the private fields `iommu_live`
//! touches.
//!
//! Usage: `layoutgen VMLINUX OUTPUT`. `VMLINUX` is an ELF file with a `.BTF` section (as in the
//! distribution's headers package) or raw BTF (`/sys/kernel/btf/vmlinux` of a running kernel).
//!
//! A wrong offset is a corrupted kernel, so anything not exactly as expected is an error and no
//! output is written: a structure or field that is missing, defined twice, bit-packed or of
//! another shape than the module was written for.

mod btf;
mod elf;
mod emit;
mod hash;

use std::process::ExitCode;

fn run() -> Result<(), String> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [input, output] = args.as_slice() else {
        return Err("usage: layoutgen VMLINUX OUTPUT".into());
    };
    let name = input.to_string_lossy();
    let file = std::fs::read(input).map_err(|e| format!("cannot read {name}: {e}"))?;
    let raw = elf::btf_section(&file).map_err(|e| format!("{name}: {e}"))?;
    let text = emit::layout(raw).map_err(|e| format!("{name}: {e}"))?;
    std::fs::write(output, text)
        .map_err(|e| format!("cannot write {}: {e}", output.to_string_lossy()))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("layoutgen: {message}");
            ExitCode::FAILURE
        }
    }
}
