// SPDX-License-Identifier: GPL-2.0-only
//! The signals that ask a program to end. While devices are unbound they are held back and looked at between two
//! steps: the device at hand is brought back first.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGQUIT is left out: it asks for a core dump, and is meant for a program that no longer listens.
const TERMINATION_SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

fn asking() -> SigSet {
    TERMINATION_SIGNALS.into_iter().collect()
}

/// Keeps those signals from ending this thread and the threads it starts from now on.
pub fn hold_back() -> nix::Result<()> {
    asking().thread_block()
}

/// A look-out for those signals, which are held back while it lives.
#[derive(Debug)]
pub struct Signals {
    queue: SignalFd,
    seen: Option<Signal>,
}

impl Signals {
    /// Holds them back from now on.
    pub fn watch() -> nix::Result<Self> {
        hold_back()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let queue = SignalFd::with_flags(&asking(), flags)?;
        Ok(Self { queue, seen: None })
    }

    /// The first of them that came, if one has.
    pub fn seen(&mut self) -> Option<Signal> {
        if self.seen.is_none() {
            let next = self.queue.read_signal().ok().flatten();
            let number = next.and_then(|s| i32::try_from(s.ssi_signo).ok());
            self.seen = number.and_then(|n| Signal::try_from(n).ok());
        }
        self.seen
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Those that came have been answered by stopping: whoever pressed Ctrl-C twice shall still see the report. If
        // they cannot be let through again, the program is about to end anyway.
        while let Ok(Some(_)) = self.queue.read_signal() {}
        let _ = asking().thread_unblock();
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn a_signal_is_seen_and_does_not_kill() {
        let mut signals = Signals::watch().unwrap();
        assert_eq!(signals.seen(), None);
        raise(Signal::SIGTERM).unwrap();
        assert_eq!(signals.seen(), Some(Signal::SIGTERM));
        // The next one is not what is reported, and does not kill afterwards either.
        raise(Signal::SIGINT).unwrap();
        assert_eq!(signals.seen(), Some(Signal::SIGTERM));
        drop(signals);
    }
}
