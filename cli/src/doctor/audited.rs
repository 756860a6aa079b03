// SPDX-License-Identifier: GPL-2.0-only
//! Whether the kernel has the code that the module was audited with. The loaded module shows it in sysfs, and the installed one
//! in its modinfo(8).

use super::finding::{Finding, Id, Level};
use super::machine::Machine;
use super::support::{install, PACKAGE};

/// The attribute of the loaded module, one word.
const AUDIT_ATTRIBUTE: &str = "kernel/iommu_live/audit";
/// The field of modinfo(8): a word, a colon, and a sentence.
const MODINFO_FIELD: &str = "audit";

/// What the module that is installed was built with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Built {
    /// One of those that `auditgen` writes.
    word: String,
    /// What it means, for people.
    sentence: String,
}

impl Built {
    fn parse(text: &str) -> Option<Self> {
        let (word, sentence) = text.split_once(": ")?;
        let (word, sentence) = (word.to_owned(), sentence.to_owned());
        Some(Self { word, sentence })
    }

    /// Reads the installed module; `None` if there is none, if modinfo(8) cannot be run, or if the module is older than the
    /// audit.
    fn of(machine: &Machine<'_>) -> Option<Self> {
        let file = machine.path(&machine.module_file()?.path);
        Self::parse(&machine.modinfo(MODINFO_FIELD, &file)?)
    }

    /// Whether the module refuses the kernel it was built for.
    fn refuses(&self) -> bool {
        matches!(self.word.as_str(), "different" | "unknown")
    }
}

/// Whether the installed module would refuse to be loaded into the running kernel, unless it is told not to.
pub fn is_refused(machine: &Machine<'_>) -> bool {
    machine.kernel.livepatched || Built::of(machine).is_some_and(|built| built.refuses())
}

/// Whether the kernel's code is the one that was audited; nothing without a module, or if an older one does not say.
pub fn audited(machine: &Machine<'_>) -> Option<Finding> {
    let loaded = machine.is_loaded();
    if machine.kernel.livepatched && (loaded || machine.module_file().is_some()) {
        let consequence = match loaded {
            true => "the module switches nothing until the next boot",
            false => "the module refuses to be loaded until the next boot",
        };
        let text = format!("the kernel was livepatched: {consequence}");
        let fix = "boot a kernel that has the patch built in";
        return Some(Finding::bad(Id::ModuleAudited, text).fix(fix));
    }
    let live = machine
        .context
        .sysfs
        .kernfs()
        .text(AUDIT_ATTRIBUTE)
        .ok()
        .flatten();
    let finding = judge(live.as_deref(), loaded, Built::of(machine).as_ref())?;
    Some(match finding.level {
        // A newer module may have been audited with this kernel.
        Level::Bad => finding.fix(install(machine, &[PACKAGE])),
        _ => finding,
    })
}

/// Judges what the loaded module reports, if anything, and what the installed one was built with.
fn judge(live: Option<&str>, loaded: bool, built: Option<&Built>) -> Option<Finding> {
    let id = Id::ModuleAudited;
    // The installed module may be another build than the loaded one.
    let sentence = |words: &[&str], otherwise: &str| match built {
        Some(built) if words.contains(&built.word.as_str()) => built.sentence.clone(),
        _ => otherwise.to_owned(),
    };
    let ok = || sentence(&["audited"], "this kernel has the code that was audited");
    let series = || {
        let otherwise = "this kernel's series was audited, and its source was not compared";
        sentence(&["series"], otherwise)
    };
    match (live, built) {
        (Some("audited"), _) => Some(Finding::ok(id, ok())),
        (Some("series"), _) => Some(Finding::note(id, series())),
        (Some("override"), _) => {
            let why = sentence(&["different", "unknown"], "this kernel was not audited");
            let text = format!("{why}; the module switches all the same (allow_unaudited=1)");
            Some(Finding::note(id, text))
        }
        (Some(word), _) => {
            let why = format!("the module says {word:?}, which this iommuctl does not know");
            Some(Finding::unknown(id, why))
        }
        (None, Some(built)) if !loaded => Some(match built.word.as_str() {
            "audited" => Finding::ok(id, ok()),
            "series" => Finding::note(id, series()),
            _ => {
                let why = &built.sentence;
                let text = format!("{why}: the module refuses it without allow_unaudited=1");
                Finding::bad(id, text)
            }
        }),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(live: Option<&str>, built: Option<&str>) -> Option<(Level, String)> {
        let built = built.map(|text| Built::parse(text).unwrap());
        let finding = judge(live, live.is_some(), built.as_ref())?;
        Some((finding.level, finding.text))
    }

    fn says(level: Level, text: &str) -> Option<(Level, String)> {
        Some((level, text.to_owned()))
    }

    #[test]
    fn the_loaded_module_is_believed() {
        let audited = "audited: this kernel is as it was";
        let unknown = "unknown: kernel series 7.9 was not audited";
        assert_eq!(
            case(Some("audited"), Some(audited)),
            says(Level::Ok, "this kernel is as it was")
        );
        // The file is of another build.
        assert_eq!(
            case(Some("audited"), Some(unknown)),
            says(Level::Ok, "this kernel has the code that was audited")
        );
        assert_eq!(
            case(Some("series"), None),
            says(
                Level::Note,
                "this kernel's series was audited, and its source was not compared"
            )
        );
        assert_eq!(
            case(Some("override"), Some(unknown)),
            says(
                Level::Note,
                "kernel series 7.9 was not audited; the module switches all the same (allow_unaudited=1)"
            )
        );
        assert_eq!(
            case(Some("perhaps"), Some(audited)).map(|(level, _)| level),
            Some(Level::Unknown)
        );
    }

    #[test]
    fn what_is_not_loaded_is_judged_by_its_file() {
        let level = |text: &str| case(None, Some(text)).map(|(level, _)| level);
        assert_eq!(level("audited: yes"), Some(Level::Ok));
        assert_eq!(level("series: perhaps"), Some(Level::Note));
        assert_eq!(
            case(None, Some("different: it differs in f of c")),
            says(
                Level::Bad,
                "it differs in f of c: the module refuses it without allow_unaudited=1"
            )
        );
        assert_eq!(level("unknown: no"), Some(Level::Bad));
        assert_eq!(case(None, None), None);
        // A loaded module that is older than the audit.
        let built = Built::parse("audited: yes");
        assert_eq!(judge(None, true, built.as_ref()), None);
        assert_eq!(Built::parse("audited"), None);
    }
}
