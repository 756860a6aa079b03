// SPDX-License-Identifier: GPL-2.0-only
//! The stale-DMA oracle: what can a device still reach after an unmap has returned?

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context as _, Result};

use super::{modules, pci};

const NAME: &str = "iommuctl_oracle";
const FOLDER: &str = "/sys/kernel/debug/iommuctl_oracle";

/// The oracle, attached to its card.
#[derive(Debug)]
pub struct Oracle {
    /// The card's group.
    pub group: u32,
}

/// What one run saw. Times are `CLOCK_MONOTONIC`, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Pages probed.
    pub probes: u64,
    /// Of these, the device reached this many while they were mapped.
    pub warmed: u64,
    /// Of these, the device did process the descriptor in the unmapped page, or tried to.
    pub attempted: u64,
    /// Of these, the device wrote into the page after its unmap had returned.
    pub reached: u64,
    /// When the unmap of the last page that was reached returned; 0 when none was.
    pub last_reached: u64,
    /// When the last unmap returned.
    pub last_unmapped: u64,
    /// The longest time between an unmap and its probe.
    pub longest_wait: u64,
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "reached {} of {} unmapped pages",
            self.reached, self.probes
        )
    }
}

/// What a map and an unmap cost, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The map.
    pub map: u64,
    /// The unmap.
    pub unmap: u64,
}

/// Who unmapped, whatever device, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Contexts {
    /// Unmaps begun by tasks.
    pub task: u64,
    /// Unmaps begun by interrupts.
    pub interrupt: u64,
    /// Unmaps that came to a ring.
    pub ring: u64,
}

/// What became of the tasks of a batch.
#[derive(Debug)]
struct Tasks {
    count: usize,
    held: usize,
    returned: usize,
}

/// Reserves the card for the oracle; before the driver for such cards is loaded.
///
/// # Errors
/// When there is no such card.
pub fn reserve() -> Result<()> {
    let path = pci::folder(pci::ORACLE).join("driver_override");
    std::fs::write(&path, NAME).with_context(|| format!("cannot write {}", path.display()))
}

/// Where in an unmap a task can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// After the sample of the mode. Whoever is held here takes the entry that is published when it goes on.
    Sampled,
    /// In the driver's own unmap entry, before the change of the page table.
    Entered,
    /// After the change of the page table.
    PageTableChanged,
    /// Before the lock of the flush queue's ring.
    BeforeRing,
    /// With that lock held. Only on a kernel where that does not keep interrupts off.
    InRing,
    /// Nowhere: not held at all.
    Nowhere,
}

impl Point {
    /// Those where a task can be held with interrupts on, in the order in which an unmap passes them.
    const IN_ORDER: [Self; 4] = [
        Self::Sampled,
        Self::Entered,
        Self::PageTableChanged,
        Self::BeforeRing,
    ];

    /// Whether the device can still use the page: if it does, the IOTLB knows it again, whatever was flushed before.
    pub fn is_before_the_change(self) -> bool {
        matches!(self, Self::Sampled | Self::Entered)
    }

    /// For the oracle.
    fn number(self) -> u32 {
        match self {
            Self::Sampled => 0,
            Self::PageTableChanged => 1,
            Self::BeforeRing => 2,
            Self::InRing => 3,
            Self::Nowhere => 4,
            Self::Entered => 5,
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sampled => "held-after-the-sample",
            Self::Entered => "held-before-the-page-table-change",
            Self::PageTableChanged => "held-after-the-page-table-change",
            Self::BeforeRing => "held-before-the-ring",
            Self::InRing => "held-in-the-ring",
            Self::Nowhere => "not-held",
        }
    }
}

/// How many batches of tasks there can be at once.
const BATCHES: usize = 8;

/// How long tasks get to arrive at a hold point, or to return from it.
const ARRIVAL: Duration = Duration::from_secs(120);

impl Oracle {
    /// Where this kernel lets tasks be held, in the order in which an unmap passes these points.
    ///
    /// # Errors
    /// When the oracle does not tell.
    pub fn points(&self) -> Result<Vec<Point>> {
        let path = Path::new(FOLDER).join("points");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let numbers: Vec<u32> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let points = Point::IN_ORDER.into_iter();
        Ok(points
            .filter(|point| numbers.contains(&point.number()))
            .collect())
    }

    /// Lets `count` tasks unmap a page each, and waits until all of them are held at `point`.
    ///
    /// # Errors
    /// When the kernel has no hold points, or they do not arrive.
    pub fn hold(&self, batch: usize, point: Point, count: usize) -> Result<()> {
        let path = Path::new(FOLDER).join("hold");
        let text = format!("{batch} {} {count}", point.number());
        std::fs::write(&path, &text)
            .with_context(|| format!("cannot write `{text}` to {}", path.display()))?;
        self.held(batch)
    }

    /// Starts a process that runs the shell command `first` and then unmaps a page, and waits until it is held at
    /// `point`.
    ///
    /// # Errors
    /// When the kernel has no hold points, or it does not arrive.
    pub fn hold_process(&self, first: &str, batch: usize, point: Point) -> Result<Child> {
        let task = self.begin_process(first, batch, point)?;
        self.held(batch)?;
        Ok(task)
    }

    /// The same, and waits only until it has its page.
    ///
    /// # Errors
    /// When the kernel has no hold points, or there is no page.
    pub fn begin_process(&self, first: &str, batch: usize, point: Point) -> Result<Child> {
        let script = format!("{first} && echo {batch} {} > {FOLDER}/own", point.number());
        let task = Command::new("/bin/sh").args(["-c", &script]).spawn();
        let task = task.context("cannot start a shell")?;
        self.wait_for(batch, "begin", |tasks| tasks.count == 1)?;
        Ok(task)
    }

    /// Waits until all tasks of a batch are held.
    ///
    /// # Errors
    /// When they are not.
    pub fn held(&self, batch: usize) -> Result<()> {
        self.wait_for(batch, "be held", |tasks| tasks.held == tasks.count)
    }

    /// Counts unmaps from 0 again.
    ///
    /// # Errors
    /// When the kernel has no hold points.
    pub fn count_contexts(&self) -> Result<()> {
        self.write("contexts", 1)
    }

    /// Who unmapped since then.
    ///
    /// # Errors
    /// When the kernel has no hold points.
    pub fn contexts(&self) -> Result<Contexts> {
        let path = Path::new(FOLDER).join("contexts");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let &["task", task, "interrupt", interrupt, "ring", ring] = words.as_slice() else {
            anyhow::bail!("{}: `{text}`", path.display());
        };
        Ok(Contexts {
            task: task.parse()?,
            interrupt: interrupt.parse()?,
            ring: ring.parse()?,
        })
    }

    /// Lets every task go on, whatever went wrong.
    ///
    /// # Errors
    /// When the kernel has no hold points.
    pub fn release_all(&self) -> Result<()> {
        (0..BATCHES).try_for_each(|batch| self.release(batch))
    }

    /// Lets the tasks of a batch go on.
    ///
    /// # Errors
    /// When there is no such batch.
    pub fn release(&self, batch: usize) -> Result<()> {
        self.write("release", batch)
    }

    /// Lets the device use each page of a batch, which is held before the change of the page table: from here on the IOTLB
    /// knows these pages again.
    ///
    /// # Errors
    /// When a page is unmapped already, or the device does not reach it.
    pub fn touch(&self, batch: usize) -> Result<()> {
        self.write("touch", batch)
    }

    /// Lets the tasks of a batch go on, and probes each page as soon as its unmap has returned.
    ///
    /// # Errors
    /// When one does not return.
    pub fn let_go(&self, batch: usize) -> Result<Sight> {
        self.write("let_go", batch)?;
        self.result()
    }

    /// Has so many threads in the kernel that never sleep; 0 stops them.
    ///
    /// # Errors
    /// When they do not start.
    pub fn spin(&self, threads: usize) -> Result<()> {
        self.write("spin", threads)
    }

    /// Waits until the unmaps of all tasks of a batch have returned.
    ///
    /// # Errors
    /// When they do not.
    pub fn returned(&self, batch: usize) -> Result<()> {
        self.wait_for(batch, "return", |tasks| tasks.returned == tasks.count)
    }

    /// How long the flush queue's timer waits, in milliseconds; 0 is as usual. Changes nothing on a kernel without hold points.
    ///
    /// # Errors
    /// When that cannot be changed.
    pub fn timer(&self, milliseconds: u32) -> Result<()> {
        if !Path::new(FOLDER).join("timer").exists() {
            return Ok(());
        }
        self.write("timer", milliseconds as usize)
    }

    fn wait_for(&self, batch: usize, what: &str, done: impl Fn(&Tasks) -> bool) -> Result<()> {
        let begin = Instant::now();
        loop {
            let tasks = self.tasks(batch)?;
            if done(&tasks) {
                return Ok(());
            }
            ensure!(
                begin.elapsed() < ARRIVAL,
                "the tasks of batch {batch} do not all {what}: {tasks:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn tasks(&self, batch: usize) -> Result<Tasks> {
        let path = Path::new(FOLDER).join("hold");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let line = text.lines().nth(batch).unwrap_or_default();
        let numbers: Vec<usize> = line
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        let &[_, count, held, returned] = numbers.as_slice() else {
            anyhow::bail!("{}: `{line}` is no batch", path.display());
        };
        Ok(Tasks {
            count,
            held,
            returned,
        })
    }

    /// Loads the oracle.
    ///
    /// # Errors
    /// When it does not load or does not find its card.
    pub fn attach() -> Result<Self> {
        modules::load_ours(NAME)?;
        let driver = pci::driver(pci::ORACLE);
        ensure!(
            driver.as_deref() == Some(NAME),
            "{} is bound to {driver:?}, not to {NAME}",
            pci::ORACLE
        );
        ensure!(
            Path::new(FOLDER).exists(),
            "{FOLDER} is not there: is debugfs mounted?"
        );
        Ok(Self {
            group: pci::group(pci::ORACLE)?,
        })
    }

    fn write(&self, name: &str, value: usize) -> Result<()> {
        let path = Path::new(FOLDER).join(name);
        std::fs::write(&path, value.to_string())
            .with_context(|| format!("cannot write {value} to {}", path.display()))
    }

    /// Maps, uses, unmaps and probes `count` pages, one after another.
    ///
    /// # Errors
    /// When the device does not work.
    pub fn probe(&self, count: usize) -> Result<Sight> {
        self.write("probe", count)?;
        self.result()?.sane()
    }

    /// Maps and uses `count` pages, then unmaps them all.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub fn arm(&self, count: usize) -> Result<()> {
        self.write("arm", count)
    }

    /// Probes every armed page.
    ///
    /// # Errors
    /// When the device does not work.
    pub fn fire(&self) -> Result<Sight> {
        self.write("fire", 1)?;
        self.result()?.sane()
    }

    /// What one flush of the whole IOTLB of the card's domain costs, in nanoseconds.
    ///
    /// # Errors
    /// When the oracle does not answer.
    pub fn flush(&self) -> Result<u64> {
        let figures = self.figures("flush")?;
        figures
            .get("flush")
            .copied()
            .context("no figure of a flush")
    }

    /// Maps `count` pages and unmaps them, some dozens at a time, without using them: what one costs.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub fn cost(&self, count: usize) -> Result<Cost> {
        self.write("cost", count)?;
        let figures = self.figures("cost")?;
        Ok(Cost {
            map: figures.get("map").copied().unwrap_or_default() / count as u64,
            unmap: figures.get("unmap").copied().unwrap_or_default() / count as u64,
        })
    }

    /// Starts probing in the background.
    ///
    /// # Errors
    /// When it runs already.
    pub fn hammer(&self) -> Result<()> {
        self.write("hammer", 1)
    }

    /// Stops probing in the background, and tells what it saw.
    ///
    /// # Errors
    /// When the device did not work.
    pub fn rest(&self) -> Result<Sight> {
        self.write("hammer", 0)?;
        self.result()?.sane()
    }

    /// The figures so far.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn result(&self) -> Result<Sight> {
        Ok(sight(&self.figures("result")?))
    }

    fn figures(&self, name: &str) -> Result<Figures> {
        let path = Path::new(FOLDER).join(name);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(parse(&text))
    }
}

type Figures = BTreeMap<String, u64>;

fn parse(text: &str) -> Figures {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs
        .filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)))
        .collect()
}

fn sight(figures: &Figures) -> Sight {
    let of = |key| figures.get(key).copied().unwrap_or_default();
    Sight {
        probes: of("probes"),
        warmed: of("warmed"),
        attempted: of("attempted"),
        reached: of("reached"),
        last_reached: of("last_reached"),
        last_unmapped: of("last_unmapped"),
        longest_wait: of("longest_wait"),
    }
}

impl Sight {
    /// Makes sure that so many pages were probed, and that the device itself worked.
    ///
    /// # Errors
    /// When not.
    pub fn of(self, count: usize) -> Result<Self> {
        ensure!(
            self.probes == count as u64,
            "{} pages were probed, not {count}",
            self.probes
        );
        self.sane()
    }

    /// Makes sure that the device itself worked: a device that does nothing reaches nothing, which proves nothing.
    fn sane(self) -> Result<Self> {
        ensure!(self.probes > 0, "the oracle probed nothing");
        ensure!(
            self.warmed == self.probes && self.attempted == self.probes,
            "the oracle's device does not work: of {} pages it reached {} while mapped and tried {} after",
            self.probes,
            self.warmed,
            self.attempted
        );
        Ok(self)
    }

    /// Makes sure that the device still reached more than half of the pages.
    ///
    /// # Errors
    /// When it did not.
    pub fn expect_most(self) -> Result<Self> {
        ensure!(
            self.reached * 2 > self.probes,
            "{self}: expected more than half, this is no lazy group"
        );
        Ok(self)
    }

    /// Makes sure that the device reached none of the pages.
    ///
    /// # Errors
    /// When it reached one.
    pub fn expect_none(self) -> Result<Self> {
        ensure!(
            self.reached == 0,
            "STALE DMA: {self} (last unmap {} ns)",
            self.last_reached
        );
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_nothing_proves_nothing() {
        let sight = sight(&parse("probes 10\nwarmed 3\nattempted 10\nreached 0\n"));
        assert!(sight
            .sane()
            .unwrap_err()
            .to_string()
            .contains("does not work"));
    }

    #[test]
    fn both_sides() {
        let text = "probes 10\nwarmed 10\nattempted 10\nreached 9\nlast_reached 77\n";
        let sight = sight(&parse(text)).sane().unwrap();
        assert_eq!(sight.to_string(), "reached 9 of 10 unmapped pages");
        assert!(sight.expect_most().is_ok());
        assert!(sight
            .expect_none()
            .unwrap_err()
            .to_string()
            .contains("STALE DMA"));
    }
}
