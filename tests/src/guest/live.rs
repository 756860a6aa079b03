// SPDX-License-Identifier: GPL-2.0-only
//! What the module under test tells of itself in `/sys/kernel/iommu_live/`.

use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};

use super::pci;

const FOLDER: &str = "/sys/kernel/iommu_live";
/// Longer than any clean-up takes that nobody holds up, with checks and under emulation.
const CLEANED_UP: Duration = Duration::from_secs(150);
/// For how long the module may have a group's mutex, in nanoseconds, less the time in which the holder waited for a processor.
pub const LONGEST_HOLD: u64 = 50_000_000;
/// What a processor of an emulated machine waits for one of the host's, the guest takes for time in which it ran: on a busy host
/// a single step may seem to take so many times as long.
const BUSY_HOST: u64 = 20;

/// The value of a counter of the module.
///
/// # Errors
/// When it is not there, or no number.
pub fn counter(name: &str) -> Result<u64> {
    let path = format!("{FOLDER}/{name}");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.trim()
        .parse()
        .with_context(|| format!("{path} is no number: {text}"))
}

/// A clean-up that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// The group.
    pub group: u32,
    /// How far it is: `armed`, `cleared`, `restored` or `tripped`.
    pub step: String,
    /// Since when the group is strict, on the clock that goes on while the machine sleeps; 0 if it is not.
    pub strict_since: u64,
    /// Its late comers.
    pub late: LateComers,
}

impl FromStr for Cleanup {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let value = |key: &str| {
            let mut words = line
                .split_whitespace()
                .filter_map(|word| word.split_once('='));
            let found = words.find(|(name, _)| *name == key).map(|(_, value)| value);
            found.with_context(|| format!("no {key} in `{line}`"))
        };
        let number = |key: &str| -> Result<u64> {
            value(key)?
                .parse()
                .with_context(|| format!("{key} is no number in `{line}`"))
        };
        Ok(Self {
            group: value("group")?
                .parse()
                .with_context(|| format!("no group in `{line}`"))?,
            step: value("step")?.to_owned(),
            strict_since: number("strict_since_ns")?,
            late: LateComers {
                came: number("late_comers")?,
                collected: number("collected")?,
                given_up: number("given_up")?,
            },
        })
    }
}

/// All clean-ups that are under way.
///
/// # Errors
/// When the module does not tell, or there are too many to be shown.
pub fn cleanups() -> Result<Vec<Cleanup>> {
    let path = format!("{FOLDER}/cleanups");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.lines().map(str::parse).collect()
}

/// Waits until the clean-up of `group` is at `step`.
///
/// # Errors
/// When it does not get there.
pub fn until(group: u32, step: &str) -> Result<Cleanup> {
    wait_for(&format!("group {group} to be {step}"), |list| {
        list.iter()
            .find(|one| one.group == group && one.step == step)
            .cloned()
    })
}

/// Makes sure that the clean-up of `group` is at `step`, and the group strict.
///
/// # Errors
/// When not.
pub fn expect_step(group: u32, step: &str) -> Result<Cleanup> {
    let list = cleanups()?;
    let found = list.iter().find(|one| one.group == group);
    let found = found.with_context(|| format!("nothing is cleaned up after group {group}"))?;
    ensure!(found.step == step, "expected {step}: {found:?}");
    ensure!(found.strict_since > 0, "no time since when: {found:?}");
    pci::expect_type(group, "DMA")?;
    Ok(found.clone())
}

/// Waits until nothing is left to clean up.
///
/// # Errors
/// When something stays.
pub fn cleaned_up() -> Result<()> {
    wait_for("everything to be cleaned up", |list| {
        list.is_empty().then_some(())
    })
}

fn wait_for<T>(what: &str, found: impl Fn(&[Cleanup]) -> Option<T>) -> Result<T> {
    let begin = Instant::now();
    loop {
        let list = cleanups()?;
        if let Some(found) = found(&list) {
            return Ok(found);
        }
        if begin.elapsed() > CLEANED_UP {
            bail!("waited in vain for {what}: {list:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Unmaps that came to an armed ring, and what became of their ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LateComers {
    /// How many came.
    pub came: u64,
    /// Ranges that were given back.
    pub collected: u64,
    /// Ranges that are lost until their domain is freed.
    pub given_up: u64,
}

impl LateComers {
    /// All there have been.
    ///
    /// # Errors
    /// When the module does not tell.
    pub fn so_far() -> Result<Self> {
        Ok(Self {
            came: counter("late_comers")?,
            collected: counter("collected")?,
            given_up: counter("given_up")?,
        })
    }

    /// Those since then; each of them must be accounted for.
    ///
    /// # Errors
    /// When one is not.
    pub fn since(self) -> Result<Self> {
        let now = Self::so_far()?;
        let since = Self {
            came: now.came - self.came,
            collected: now.collected - self.collected,
            given_up: now.given_up.wrapping_sub(self.given_up),
        };
        ensure!(
            since.came == since.collected.wrapping_add(since.given_up),
            "not all late comers are accounted for: {since:?}"
        );
        Ok(since)
    }
}

/// The most that was seen of the module before it was unloaded.
static LONGEST: AtomicU64 = AtomicU64::new(0);
static TRIPPED: AtomicU64 = AtomicU64::new(0);

static LONG_HOLD_EXPECTED: AtomicBool = AtomicBool::new(false);

/// The module cannot but have a group's mutex for long until the next look, because of what a test does.
pub fn expect_long_hold() {
    LONG_HOLD_EXPECTED.store(true, Ordering::Relaxed);
}

/// Within what somebody is answered who does not wait: a kernel with checks, emulated, takes some twenty times as long for everything.
///
/// # Errors
/// When the kernel does not tell which it is.
pub fn answer() -> Result<Duration> {
    let path = "/proc/sys/kernel/osrelease";
    let release = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let slow = if release.contains("-iommuctl-") {
        20
    } else {
        1
    };
    Ok(slow * Duration::from_millis(50))
}

/// Remembers what [`expect_sound`] looks at: for whoever unloads the module.
pub fn remember() {
    for (name, most) in [("longest_hold_ns", &LONGEST), ("tripped", &TRIPPED)] {
        if let Ok(value) = counter(name) {
            most.fetch_max(value, Ordering::Relaxed);
        }
    }
}

/// Makes sure that the module has had no group's mutex for long, and that no invariant of its was seen broken, since the last
/// look. Nothing if it was not loaded.
///
/// # Errors
/// When not.
pub fn expect_sound() -> Result<String> {
    let was_there = Path::new(FOLDER).exists();
    remember();
    let longest = LONGEST.swap(0, Ordering::Relaxed);
    let tripped = TRIPPED.swap(0, Ordering::Relaxed);
    ensure!(
        tripped == 0,
        "an invariant was seen broken: tripped reads {tripped}"
    );
    let expected = LONG_HOLD_EXPECTED.swap(false, Ordering::Relaxed);
    ensure!(
        expected || longest <= LONGEST_HOLD * BUSY_HOST,
        "the module had a group's mutex for {longest} ns"
    );
    Ok(if was_there || longest > 0 {
        format!(
            "the module had a group's mutex for {} us at most",
            longest / 1000
        )
    } else {
        "the module was not there".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_cleanup() {
        let line = "group=12 step=armed strict_since_ns=77 late_comers=3 collected=2 given_up=1";
        let found: Cleanup = line.parse().unwrap();
        assert_eq!(
            (found.group, found.step.as_str(), found.strict_since),
            (12, "armed", 77)
        );
        assert_eq!(
            (found.late.came, found.late.collected, found.late.given_up),
            (3, 2, 1)
        );
        assert!("more=3".parse::<Cleanup>().is_err());
    }
}
