// SPDX-License-Identifier: GPL-2.0-only
//! How to enable an IOMMU that is off.

use super::procfs::Kernel;

/// The word on the kernel command line that switches the IOMMU off, if there is one.
#[must_use]
pub fn switched_off(kernel: &Kernel) -> Option<&str> {
    let off = kernel.parameters.iter().find(|p| {
        let (_, value) = p.split_once('=').unwrap_or((p, ""));
        let names_iommu =
            p.starts_with("iommu=") || p.starts_with("intel_iommu=") || p.starts_with("amd_iommu=");
        names_iommu && value.split(',').any(|v| v == "off")
    });
    off.map(String::as_str)
}

/// How to enable the IOMMU on this machine, one line each.
#[must_use]
pub fn how_to_enable_iommu(kernel: &Kernel, architecture: &str) -> Vec<String> {
    let mut advice = Vec::new();
    if let Some(word) = switched_off(kernel) {
        advice.push(format!(
            "take {word} off the kernel command line and reboot: it switches the IOMMU off"
        ));
    }
    let intel = "Intel: switch VT-d on in the firmware setup, and boot with intel_iommu=on";
    let amd = "AMD: switch the IOMMU (AMD-Vi) on in the firmware setup; the kernel then uses it without a parameter";
    let arm = "Arm: the firmware must describe the SMMU (ACPI IORT table or device tree), and the kernel needs its driver";
    let x86 = matches!(architecture, "x86_64" | "x86");
    match kernel.cpu_vendor.as_deref() {
        // The IOMMU of a virtual machine can be of another vendor than the processor.
        _ if x86 && kernel.virtual_machine => advice.extend([intel, amd].map(str::to_owned)),
        Some("GenuineIntel") if x86 => advice.push(intel.to_owned()),
        Some("AuthenticAMD" | "HygonGenuine") if x86 => advice.push(amd.to_owned()),
        _ if matches!(architecture, "aarch64" | "arm") => advice.push(arm.to_owned()),
        _ => advice.extend([intel, amd, arm].map(str::to_owned)),
    }
    if kernel.virtual_machine || !x86 {
        advice.push("in a virtual machine: the hypervisor must give it a virtual IOMMU".to_owned());
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enabling_depends_on_the_processor() {
        let kernel = |vendor: &str, parameters: &[&str]| Kernel {
            cpu_vendor: Some(vendor.to_owned()),
            parameters: parameters.iter().map(|p| (*p).to_owned()).collect(),
            ..Kernel::default()
        };
        let intel = how_to_enable_iommu(&kernel("GenuineIntel", &[]), "x86_64").join("\n");
        assert!(intel.contains("intel_iommu=on") && !intel.contains("AMD-Vi"));
        let amd = how_to_enable_iommu(&kernel("AuthenticAMD", &["iommu=off"]), "x86_64").join("\n");
        assert!(amd.contains("AMD-Vi") && amd.contains("take iommu=off off"));
        let other = how_to_enable_iommu(&Kernel::default(), "riscv64").join("\n");
        assert!(other.contains("Intel") && other.contains("Arm"));
        // An AMD processor with an emulated VT-d, as QEMU makes it.
        let guest = Kernel {
            virtual_machine: true,
            ..kernel("AuthenticAMD", &[])
        };
        let guest = how_to_enable_iommu(&guest, "x86_64").join("\n");
        assert!(guest.contains("intel_iommu=on") && guest.contains("AMD-Vi"));
        assert!(guest.contains("hypervisor"));
    }
}
