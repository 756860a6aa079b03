// SPDX-License-Identifier: GPL-2.0-only
//! Termination signals. While devices are unbound they are blocked and polled between two steps, so that the current device is
//! bound again first.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that request termination. SIGQUIT is left out: it requests a core dump of a program that does not react.
const TERMINATION_SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

fn termination_signals() -> SigSet {
    TERMINATION_SIGNALS.into_iter().collect()
}

/// Blocks the termination signals in this thread and the threads it starts from now on.
pub fn hold_back() -> nix::Result<()> {
    termination_signals().thread_block()
}

/// A signalfd(2) for the termination signals, which stay blocked while it exists.
#[derive(Debug)]
pub struct Signals {
    queue: SignalFd,
    seen: Option<Signal>,
}

impl Signals {
    /// Blocks the termination signals from now on.
    pub fn watch() -> nix::Result<Self> {
        hold_back()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let queue = SignalFd::with_flags(&termination_signals(), flags)?;
        Ok(Self { queue, seen: None })
    }

    /// The first termination signal that has arrived, if any; later calls return the same one.
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
        // Discard the pending signals: they have already stopped the command, and a second Ctrl-C must not suppress the report.
        // If they cannot be unblocked, the program is about to end anyway.
        while let Ok(Some(_)) = self.queue.read_signal() {}
        let _ = termination_signals().thread_unblock();
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
