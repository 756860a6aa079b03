// SPDX-License-Identifier: GPL-2.0-only
//! The identity of a process (its program, unit, login and start time) and of this boot. All of it is `None` for a process that
//! has ended or may not be inspected.

use super::Proc;

impl Proc {
    /// The id of this boot; empty if it cannot be read.
    #[must_use]
    pub fn boot_id(&self) -> String {
        let id = self.tree.text("sys/kernel/random/boot_id");
        id.ok().flatten().unwrap_or_default()
    }

    /// When the process started, in clock ticks since boot.
    #[must_use]
    pub fn started(&self, pid: u32) -> Option<u64> {
        let line = self
            .lines(&format!("{pid}/stat"))
            .ok()?
            .into_iter()
            .next()?;
        started(&line)
    }

    /// The user who logged in, if the process comes from a login.
    #[must_use]
    pub fn login_uid(&self, pid: u32) -> Option<u32> {
        let text = self.tree.text(&format!("{pid}/loginuid")).ok()??;
        text.parse().ok().and_then(login_uid)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self, pid: u32) -> Option<String> {
        self.tree.text(&format!("{pid}/comm")).ok()?
    }

    /// Its program. Reading that of another user's process, or of one with more capabilities, takes `CAP_SYS_PTRACE`.
    #[must_use]
    pub fn executable(&self, pid: u32) -> Option<String> {
        self.tree.link_text(&format!("{pid}/exe")).ok()?
    }

    /// Its systemd unit: the innermost component of its control group that is the name of a unit.
    #[must_use]
    pub fn unit(&self, pid: u32) -> Option<String> {
        let lines = self.lines(&format!("{pid}/cgroup")).ok()?;
        let path = lines.iter().find_map(|line| line.strip_prefix("0::"))?;
        unit(path).map(str::to_owned)
    }
}

/// The login uid `uid`; `None` for -1, which the kernel uses for processes without a login.
#[must_use]
pub fn login_uid(uid: u32) -> Option<u32> {
    (uid != u32::MAX).then_some(uid)
}

/// The 22nd field. The second field is a name in parentheses, which can contain anything.
fn started(line: &str) -> Option<u64> {
    let (_, rest) = line.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn unit(path: &str) -> Option<&str> {
    const KINDS: [&str; 3] = [".service", ".scope", ".socket"];
    let is_unit = |name: &&str| KINDS.iter().any(|kind| name.ends_with(kind));
    path.rsplit('/').find(is_unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_with_parentheses_does_not_hide_the_start() {
        let line = "77 (a) R 1) S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 100";
        assert_eq!(started(line), Some(4711));
        assert_eq!(started("77 (a) S 1"), None);
    }

    #[test]
    fn innermost_unit_is_named() {
        for (path, wanted) in [
            ("/system.slice/cron.service", Some("cron.service")),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/a.scope",
                Some("a.scope"),
            ),
            ("/system.slice/x.service/payload", Some("x.service")),
            ("/", None),
        ] {
            assert_eq!(unit(path), wanted);
        }
    }

    #[test]
    fn this_process_has_started() {
        let proc = Proc::open(None).unwrap();
        assert!(proc.started(std::process::id()).is_some());
        assert_eq!(proc.boot_id().len(), 36);
    }
}
