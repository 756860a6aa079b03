// SPDX-License-Identifier: GPL-2.0-only
//! `guest`: process 1 of the virtual machine. Runs the scenarios named on the kernel command line and powers off.

fn main() {
    iommuctl_tests::guest::init::main();
}
