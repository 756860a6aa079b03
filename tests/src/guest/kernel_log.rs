// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's log, looked at for anything that should not be there.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{bail, Context as _, Result};
use nix::errno::Errno;
use nix::libc::O_NONBLOCK;

use super::pci;

/// Levels up to this one are trouble: `KERN_WARNING`.
const WARNING: u8 = 4;
/// Trouble at any level.
const SIGNS: [&str; 7] = [
    "BUG:",
    "WARNING:",
    "Oops",
    "general protection",
    "I/O error",
    "lockup",
    "call trace",
];
/// A fault of a device, as the drivers of the IOMMUs tell it. Trouble, but for the device that is to fault.
const FAULTS: [&str; 4] = [
    "DMAR: [",
    "AMD-Vi: Event logged",
    "page fault from EP ",
    "event: F_",
];
/// What a stock kernel says about any module that is not its own, once, and what ours says when it is refused: a load
/// that was not meant to be refused fails anyway.
const EXPECTED: [&str; 6] = [
    // Once, when a node of a disk that is just going is opened.
    "block device autoloading is deprecated",
    // e1000 has parameters for 32 cards, and takes each time it is bound for another card.
    "using defaults for all values",
    "iommu_live: built for another kernel",
    // On a kernel whose code was not audited: that it is refused for that, or is not because of it.
    "allow_unaudited=1",
    "loading out-of-tree module taints kernel",
    "module verification failed",
];
/// What the scheduler says, once, when a processor was not there for a while: an emulated one on a busy host.
const BUSY_HOST: [&str; 1] = ["sched: DL replenish lagged too much"];
/// What the kernel says around a fault, without naming the device.
const AROUND_FAULTS: [&str; 6] = [
    "DRHD: handling fault status reg",
    "callbacks suppressed",
    "DMAR: dmar_fault",
    // The SMMU's: the number of the event, its four words with a tab before each, and what the device was about to do.
    ": event 0x",
    r": \x090x",
    " stag: ",
];

/// Written to the log by ourselves, around complaints that a test makes the kernel utter.
const COMPLAINTS_BEGIN: &str = "iommuctl: complaints are expected from here";
const COMPLAINTS_END: &str = "iommuctl: complaints are expected until here";

/// Says in the log that complaints are expected from now on, or no longer. Signs of a bug never are.
///
/// # Errors
/// When the log cannot be written.
pub fn expect_complaints(expected: bool) -> Result<()> {
    let mark = if expected {
        COMPLAINTS_BEGIN
    } else {
        COMPLAINTS_END
    };
    std::fs::write("/dev/kmsg", mark).context("cannot write to /dev/kmsg")
}

/// Whether a line tells of a fault of a device that is not to fault: the oracle's card does, on purpose.
pub fn is_fault(text: &str) -> bool {
    any(&FAULTS, text) && !any(&pci::ORACLE_IN_MESSAGES, text)
}

fn any(parts: &[&str], text: &str) -> bool {
    parts.iter().any(|part| text.contains(part))
}

fn is_trouble(level: u8, text: &str) -> bool {
    if any(&EXPECTED, text) || any(&AROUND_FAULTS, text) || any(&BUSY_HOST, text) {
        return false;
    }
    if any(&FAULTS, text) {
        return is_fault(text);
    }
    level <= WARNING || any(&SIGNS, text)
}

/// The log from a moment on.
#[derive(Debug)]
pub struct KernelLog {
    file: File,
}

impl KernelLog {
    /// The log from now on.
    ///
    /// # Errors
    /// When `/dev/kmsg` cannot be opened.
    pub fn from_now() -> Result<Self> {
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open("/dev/kmsg");
        let mut file = open.context("cannot open /dev/kmsg")?;
        file.seek(SeekFrom::End(0))
            .context("cannot seek in /dev/kmsg")?;
        Ok(Self { file })
    }

    /// Everything since the last look that should not be there.
    ///
    /// # Errors
    /// When there is any, or the log cannot be read.
    pub fn expect_clean(&mut self) -> Result<String> {
        let lines = self.read()?;
        let mut pardon = false;
        let bad: Vec<_> = lines
            .iter()
            .filter(|(level, text)| {
                pardon =
                    (pardon || text.contains(COMPLAINTS_BEGIN)) && !text.contains(COMPLAINTS_END);
                let level = if pardon { WARNING + 1 } else { *level };
                !text.contains(COMPLAINTS_END) && is_trouble(level, text)
            })
            .collect();
        if bad.is_empty() {
            return Ok(format!("{} lines, none of them trouble", lines.len()));
        }
        let shown: String = bad
            .iter()
            .take(10)
            .map(|(level, text)| format!("\n<{level}> {text}"))
            .collect();
        bail!("{} lines of trouble in the kernel log:{shown}", bad.len())
    }

    /// All records since the last look: level and text.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn read(&mut self) -> Result<Vec<(u8, String)>> {
        let mut lines = Vec::new();
        let mut record = vec![0; 8192];
        loop {
            match self.file.read(&mut record) {
                Ok(0) => return Ok(lines),
                Ok(length) => lines.extend(parse(&String::from_utf8_lossy(&record[..length]))),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return Ok(lines),
                    Some(Errno::EPIPE) => {
                        lines.push((WARNING, "the kernel log ran over: lines are lost".into()))
                    }
                    _ => return Err(error).context("cannot read /dev/kmsg"),
                },
            }
        }
    }
}

/// `4,1234,5678,-;text` and continuation lines, which start with a space.
fn parse(record: &str) -> Option<(u8, String)> {
    let (head, text) = record.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    let text = text.lines().next()?;
    // The low three bits are the level, the rest says who is speaking.
    Some(((priority & 7) as u8, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_level_and_a_text() {
        assert_eq!(
            parse("12,1,2,-;hello\n KEY=value\n"),
            Some((4, "hello".into()))
        );
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn only_the_oracle_may_fault() {
        let fault = |device| {
            format!("DMAR: [DMA Write NO_PASID] Request device [{device}] fault addr 0xfffff000")
        };
        assert!(!is_trouble(3, &fault("00:06.0")));
        assert!(is_trouble(3, &fault("00:03.0")));
        let fault = |device| {
            format!("pci 0000:{device}: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0004 address=0xfffff000 flags=0x0020]")
        };
        assert!(!is_trouble(3, &fault("00:06.0")));
        assert!(is_trouble(3, &fault("00:03.0")));
        for client in ["0000:00:06.0", "0000:00:03.0"] {
            let fault = format!("arm-smmu-v3 9050000.smmuv3: event: F_TRANSLATION client: {client} sid: 0x30 ssid: 0 iova: 0xfffff000 ipa: 0");
            assert_eq!(is_trouble(3, &fault), client == "0000:00:03.0");
        }
        for around in [
            "event 0x10 received:",
            r"\x090x0000003000000010",
            r#"unpriv data write s1 "Input address caused fault" stag: 0"#,
        ] {
            let line = format!("arm-smmu-v3 9050000.smmuv3: {around}");
            assert!(!is_trouble(3, &line), "{line}");
        }
        let lost = "arm-smmu-v3 9050000.smmuv3: EVTQ overflow detected -- events lost";
        assert!(is_trouble(3, lost));
        let fault = |endpoint| {
            format!("virtio_iommu virtio0: page fault from EP {endpoint} at 0xfffff010 []")
        };
        assert!(!is_trouble(3, &fault(48)));
        assert!(is_trouble(3, &fault(24)));
        assert!(!is_trouble(
            4,
            "iommu_live: loading out-of-tree module taints kernel."
        ));
        assert!(is_trouble(6, "WARNING: CPU: 0 PID: 1"));
        assert!(!is_trouble(6, "nvme nvme0: 2/0/0 default/read/poll queues"));
    }
}
