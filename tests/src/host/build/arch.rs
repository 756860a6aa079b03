// SPDX-License-Identifier: GPL-2.0-only
//! The architectures a machine can have, and what each is called: by Debian, the kernel, Rust and QEMU.

/// The architecture of a machine, and of all that runs in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// Also that of the test bed itself: the root in the cache is made of its packages.
    X86_64,
    /// 64-bit Arm.
    Arm64,
}

impl Arch {
    /// The name that Debian's packages and kernels have.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// What the kernel's makefiles are told.
    pub fn make(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &[],
            Self::Arm64 => &["ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"],
        }
    }

    /// What our programs are built for. They need no library there: the C library of the first can be linked into them with
    /// the host's own linker, and the second brings one along.
    pub fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    /// What rustc is told beside that. Its own linker links any target that brings its C library along.
    pub fn rustflags(self) -> &'static str {
        match self {
            Self::X86_64 => "-C target-feature=+crt-static",
            Self::Arm64 => "-C target-feature=+crt-static -C linker=rust-lld",
        }
    }

    /// The program of the root that emulates it.
    pub fn emulator(self) -> &'static str {
        match self {
            Self::X86_64 => "usr/bin/qemu-system-x86_64",
            Self::Arm64 => "usr/bin/qemu-system-aarch64",
        }
    }

    /// What QEMU has for a computer of this kind.
    pub fn board(self) -> &'static str {
        match self {
            Self::X86_64 => "q35,kernel-irqchip=split",
            Self::Arm64 => "virt,gic-version=3",
        }
    }

    /// The processor: the oldest that knows pages of every size there are kernels for, as old ones are emulated fastest; none
    /// is QEMU's own choice.
    pub fn processor(self) -> Option<&'static str> {
        match self {
            // One of the oldest kind the distribution supports.
            Self::X86_64 => None,
            Self::Arm64 => Some("cortex-a76"),
        }
    }

    /// Words of the kernel command line: where it prints, and what an emulated machine needs.
    pub fn command_line(self) -> &'static [&'static str] {
        match self {
            // A kernel that boots wants to see ten interrupts of the timer in time, which an emulated processor of a busy
            // host may not get.
            Self::X86_64 => &["console=ttyS0", "no_timer_check"],
            Self::Arm64 => &["console=ttyAMA0"],
        }
    }
}
