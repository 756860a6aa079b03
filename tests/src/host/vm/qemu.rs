// SPDX-License-Identifier: GPL-2.0-only
//! What QEMU is told: from a description of the machine to a command line, and nothing else.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::host::build::arch::Arch;

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU itself: works everywhere.
    Tcg,
    /// The host's processor: fast, and not always usable where `/dev/kvm` is there.
    Kvm,
}

impl Accelerator {
    /// KVM when `IOMMUCTL_KVM=1` asks for it and the host's processor can execute the instructions of `arch`, else
    /// emulation.
    pub fn from_environment(arch: Arch) -> Self {
        match (std::env::var("IOMMUCTL_KVM").as_deref(), arch) {
            (Ok("1"), Arch::X86_64) => Self::Kvm,
            _ => Self::Tcg,
        }
    }
}

/// What a machine's time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// That of the host, so that a machine which waits for its turn at the host's processors sees time pass.
    Host,
    /// A nanosecond for each instruction, and where no processor has any, straight on to the next timer. The processors take
    /// turns. Whatever else the host does takes no time, and neither do the devices' own doings. Emulation only.
    Instructions,
}

/// What stands between the devices and the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iommu {
    /// Nothing.
    Absent,
    /// Intel VT-d, with these options beside the usual ones.
    Intel(&'static str),
    /// AMD-Vi.
    Amd,
    /// virtio-iommu.
    Virtio,
    /// Arm SMMU, version 3, with these options beside the usual ones.
    Smmu3(&'static str),
}

impl Iommu {
    /// The device that QEMU makes.
    fn device(self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Intel(options) => Some(format!("intel-iommu,intremap=on{options}")),
            // Without dma-remap it remaps for devices of the host only.
            Self::Amd => Some("amd-iommu,intremap=on,dma-remap=on".to_owned()),
            Self::Virtio => Some("virtio-iommu-pci".to_owned()),
            Self::Smmu3(options) => Some(format!("arm-smmuv3,primary-bus=pcie.0{options}")),
        }
    }
}

/// A device on the root bus, or behind a root port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// An NVMe disk over an image file.
    Nvme {
        /// The slot on the root bus.
        slot: u8,
        /// The disk's content.
        image: PathBuf,
    },
    /// An e1000 network card with a network behind it that only knows the host, at 10.0.2.2.
    Network {
        /// The slot on the root bus.
        slot: u8,
    },
    /// The same, and a way in: `port` of the host's own address leads to the guest's SSH.
    Reachable {
        /// The slot on the root bus.
        slot: u8,
        /// The port of the host.
        port: u16,
    },
    /// An e1000 card with nothing behind it, for the oracle.
    Oracle {
        /// The slot on the root bus.
        slot: u8,
    },
    /// A root port with an e1000e network card behind it, in a bus of its own. No driver for it is on board: with
    /// so little memory the kernel has no bounce buffers, without which an untrusted disk cannot work.
    Port {
        /// The slot of the port on the root bus.
        slot: u8,
    },
    /// An empty root port, `portN`, for what is plugged in while the machine runs.
    EmptyPort {
        /// The slot of the port on the root bus, N.
        slot: u8,
    },
    /// One slot with two functions that nothing keeps apart, an NVMe disk and an e1000 card: one group.
    Pair {
        /// The slot on the root bus.
        slot: u8,
        /// The disk's content.
        image: PathBuf,
    },
    /// A virtio disk behind a root port that keeps translations of its own, where the IOMMU lets it (ATS).
    Translating {
        /// The slot of the port on the root bus.
        slot: u8,
        /// The disk's content.
        image: PathBuf,
    },
    /// An NVMe disk that reads as zeroes.
    Blank {
        /// Its slot on the root bus.
        slot: u8,
    },
    /// Eight root ports in a slot, each with such a disk behind it: eight groups.
    Blanks {
        /// The slot of the ports on the root bus.
        slot: u8,
    },
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// What it is.
    pub arch: Arch,
    /// Who executes its instructions.
    pub accelerator: Accelerator,
    /// Number of processors.
    pub processors: u8,
    /// What its time is.
    pub clock: Clock,
    /// Memory in MiB.
    pub memory: u32,
    /// Its IOMMU.
    pub iommu: Iommu,
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// Words of the kernel command line, beside those for the console.
    pub command_line: Vec<String>,
    /// Devices.
    pub devices: Vec<Device>,
    /// An ACPI table added to those of QEMU.
    pub acpi_table: Option<PathBuf>,
    /// Gets what the kernel prints.
    pub console: PathBuf,
    /// Gets what the guest reports.
    pub report: PathBuf,
    /// Where its monitor listens, for devices that come while it runs.
    pub monitor: Option<PathBuf>,
}

impl Machine {
    /// The arguments for QEMU; firmware comes from `share` (`usr/share` of the root).
    pub fn arguments(&self, share: &Path) -> Vec<OsString> {
        let mut list = Arguments::default();
        list.pair("-L", share.join("qemu"));
        list.pair("-L", share.join("seabios"));
        list.pair("-machine", self.arch.board());
        let processor = match self.accelerator {
            Accelerator::Tcg => {
                match self.clock {
                    Clock::Host => list.pair("-accel", "tcg,thread=multi"),
                    Clock::Instructions => {
                        list.pair("-accel", "tcg,thread=single");
                        list.pair("-icount", "shift=0,sleep=off");
                    }
                }
                self.arch.processor()
            }
            Accelerator::Kvm => {
                list.pair("-accel", "kvm");
                Some("host")
            }
        };
        if let Some(processor) = processor {
            list.pair("-cpu", processor);
        }
        list.pair("-smp", self.processors.to_string());
        list.pair("-m", format!("{}M", self.memory));
        for word in ["-nodefaults", "-no-user-config", "-no-reboot"] {
            list.0.push(word.into());
        }
        list.pair("-display", "none");
        list.pair("-serial", file("file:", &self.console));
        list.pair("-serial", file("file:", &self.report));
        if let Some(monitor) = &self.monitor {
            let socket = file("socket,id=monitor,server=on,wait=off,path=", monitor);
            list.pair("-chardev", socket);
            list.pair("-mon", "chardev=monitor,mode=control");
        }
        if let Some(table) = &self.acpi_table {
            list.pair("-acpitable", file("file=", table));
        }
        list.pair("-kernel", &self.kernel);
        list.pair("-initrd", &self.initramfs);
        list.pair("-append", self.append());
        if let Some(iommu) = self.iommu.device() {
            // Before every device: what is made earlier is not behind it.
            list.pair("-device", iommu);
        }
        for device in &self.devices {
            list.device(device);
        }
        list.0
    }

    fn append(&self) -> String {
        let mut words = self.arch.command_line().to_vec();
        words.extend(["panic=-1", "oops=panic"]);
        words.extend(self.command_line.iter().map(String::as_str));
        words.join(" ")
    }
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn pair(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }

    fn device(&mut self, device: &Device) {
        match device {
            Device::Nvme { slot, image } => self.disk(*slot, image, ""),
            Device::Pair { slot, image } => {
                self.disk(*slot, image, ",multifunction=on");
                self.pair("-netdev", "user,id=pair,restrict=on,net=10.0.3.0/24");
                self.pair(
                    "-device",
                    format!("e1000,netdev=pair,addr={slot:#x}.1,romfile="),
                );
            }
            Device::Translating { slot, image } => {
                self.drive(*slot, image);
                // On the root bus itself it would be no PCI Express device, which ATS is for.
                self.root_port(*slot);
                // It is behind the IOMMU only if it is told so.
                self.pair(
                    "-device",
                    format!("virtio-blk-pci,drive=disk{slot},bus=rp,addr=0x0,disable-legacy=on,iommu_platform=on,ats=on"),
                );
            }
            Device::Network { slot } => self.network(*slot, ""),
            Device::Reachable { slot, port } => {
                self.network(*slot, &format!(",hostfwd=tcp:127.0.0.1:{port}-:22"));
            }
            Device::Oracle { slot } => {
                self.pair("-device", format!("e1000,addr={slot:#x},romfile="))
            }
            Device::Port { slot } => {
                self.root_port(*slot);
                self.pair("-device", "e1000e,bus=rp,addr=0x0,romfile=");
            }
            Device::EmptyPort { slot } => self.pair(
                "-device",
                format!("pcie-root-port,id=port{slot},chassis={slot},slot={slot},addr={slot:#x}"),
            ),
            Device::Blank { slot } => {
                self.blank(&format!("blank{slot}"), &format!("pcie.0,addr={slot:#x}"));
            }
            Device::Blanks { slot } => (0..8).for_each(|function| self.port(*slot, function)),
        }
    }

    fn network(&mut self, slot: u8, more: &str) {
        self.pair("-netdev", format!("user,id=net,restrict=on{more}"));
        let device = format!("e1000,netdev=net,addr={slot:#x},romfile=");
        self.pair("-device", device);
    }

    fn port(&mut self, slot: u8, function: u8) {
        let name = format!("blank{slot}-{function}");
        let chassis = slot * 8 + function;
        self.pair(
            "-device",
            format!("pcie-root-port,id=rp-{name},multifunction=on,chassis={chassis},slot={chassis},addr={slot:#x}.{function}"),
        );
        self.blank(&name, &format!("rp-{name},addr=0x0"));
    }

    fn blank(&mut self, name: &str, bus: &str) {
        self.pair(
            "-drive",
            format!("if=none,driver=null-co,size=64M,read-zeroes=on,id={name}"),
        );
        self.pair(
            "-device",
            format!("nvme,drive={name},serial={name},bus={bus}"),
        );
    }

    /// A root port, `rp`.
    fn root_port(&mut self, slot: u8) {
        self.pair(
            "-device",
            format!("pcie-root-port,id=rp,slot=1,addr={slot:#x}"),
        );
    }

    /// A disk's content, `diskN`.
    fn drive(&mut self, slot: u8, image: &Path) {
        let drive = format!("if=none,format=raw,cache=unsafe,id=disk{slot},file=");
        self.pair("-drive", file(&drive, image));
    }

    fn disk(&mut self, slot: u8, image: &Path, more: &str) {
        self.drive(slot, image);
        let device =
            format!("nvme,drive=disk{slot},serial=iommuctl{slot},bus=pcie.0,addr={slot:#x}{more}");
        self.pair("-device", device);
    }
}

/// QEMU splits values at commas, and reads two of them as one that is meant.
fn file(prefix: &str, path: &Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path.to_string_lossy().replace(',', ",,"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            arch: Arch::X86_64,
            accelerator: Accelerator::Tcg,
            processors: 2,
            clock: Clock::Host,
            memory: 1024,
            iommu: Iommu::Intel(""),
            kernel: "/k/vmlinuz".into(),
            initramfs: "/k/initramfs".into(),
            command_line: vec!["intel_iommu=on".into()],
            devices: vec![
                Device::Nvme {
                    slot: 3,
                    image: "/d/a,b.img".into(),
                },
                Device::Network { slot: 5 },
                Device::Oracle { slot: 6 },
                Device::Port { slot: 7 },
            ],
            acpi_table: None,
            console: "/l/console".into(),
            report: "/l/report".into(),
            monitor: None,
        }
    }

    fn line(machine: &Machine) -> String {
        let words = machine.arguments(Path::new("/r/usr/share"));
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn the_iommu_comes_before_every_device_behind_it() {
        let line = line(&machine());
        let iommu = line.find("intel-iommu,intremap=on").unwrap();
        assert!(iommu < line.find("nvme,").unwrap() && iommu < line.find("e1000,").unwrap());
        assert!(line.contains("-machine q35,kernel-irqchip=split") && line.contains("-no-reboot"));
    }

    #[test]
    fn an_arm_machine_has_its_own_board_and_console() {
        let machine = Machine {
            arch: Arch::Arm64,
            iommu: Iommu::Smmu3(",stage=2"),
            ..machine()
        };
        let line = line(&machine);
        assert!(line.contains("-machine virt,gic-version=3"), "{line}");
        assert!(line.contains("console=ttyAMA0 panic=-1"), "{line}");
        let iommu = line.find("arm-smmuv3,primary-bus=pcie.0,stage=2").unwrap();
        assert!(iommu < line.find("nvme,").unwrap(), "{line}");
    }

    #[test]
    fn a_machine_without_an_iommu_has_none() {
        let machine = Machine {
            iommu: Iommu::Absent,
            ..machine()
        };
        assert!(!line(&machine).contains("intel-iommu"));
    }

    #[test]
    fn the_report_has_a_serial_line_of_its_own() {
        assert!(line(&machine()).contains("-serial file:/l/console -serial file:/l/report"));
    }

    #[test]
    fn a_monitor_and_a_port_for_what_comes_later() {
        let mut machine = machine();
        assert!(!line(&machine).contains("-mon"));
        machine.monitor = Some("/l/qmp".into());
        machine.devices.push(Device::EmptyPort { slot: 9 });
        let line = line(&machine);
        assert!(line.contains("wait=off,path=/l/qmp -mon chardev=monitor,mode=control"));
        assert!(line.contains("pcie-root-port,id=port9,chassis=9,slot=9,addr=0x9"));
    }

    #[test]
    fn commas_in_paths_survive() {
        assert!(line(&machine()).contains("file=/d/a,,b.img"));
    }

    #[test]
    fn a_port_has_its_card_behind_it() {
        let line = line(&machine());
        assert!(
            line.contains("pcie-root-port,id=rp,slot=1,addr=0x7 -device e1000e,bus=rp,addr=0x0")
        );
    }

    #[test]
    fn a_pair_is_two_functions_of_one_slot() {
        let mut machine = machine();
        let image = "/d/pair.img".into();
        machine.devices.push(Device::Pair { slot: 8, image });
        let line = line(&machine);
        assert!(line.contains("addr=0x8,multifunction=on"), "{line}");
        assert!(line.contains("e1000,netdev=pair,addr=0x8.1"), "{line}");
    }

    #[test]
    fn the_way_in_is_open_to_this_host_only() {
        let mut machine = machine();
        machine.devices = vec![Device::Reachable {
            slot: 5,
            port: 2222,
        }];
        let line = line(&machine);
        assert!(
            line.contains("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22 -device e1000"),
            "{line}"
        );
    }

    #[test]
    fn a_clock_of_instructions_has_one_thread_that_counts() {
        let clock = Clock::Instructions;
        let counted = line(&Machine { clock, ..machine() });
        assert!(counted.contains("-accel tcg,thread=single -icount shift=0,sleep=off"));
        assert!(!line(&machine()).contains("-icount"));
    }

    #[test]
    fn kvm_only_when_asked_for() {
        assert!(line(&machine()).contains("-accel tcg,thread=multi"));
        let machine = Machine {
            accelerator: Accelerator::Kvm,
            ..machine()
        };
        assert!(line(&machine).contains("-accel kvm -cpu host"));
    }

    #[test]
    fn the_command_line_names_the_console_and_the_words_given() {
        assert!(line(&machine())
            .contains("-append console=ttyS0 no_timer_check panic=-1 oops=panic intel_iommu=on"));
    }
}
