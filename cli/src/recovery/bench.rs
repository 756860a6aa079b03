// SPDX-License-Identifier: GPL-2.0-only
//! Finishes a benchmark that was killed together with its guard.

use std::time::Duration;

use iommuctl_policy::GroupId;

use super::{Interrupted, Recovered};
use crate::bench::guard::journal;
use crate::bench::guard::restore::restore;
use crate::bench::guard::restore::Restored;
use crate::change::session::Session;
use crate::kernel::machine::Context;
use crate::sys::private_dir::PrivateDir;
/// Groups whose type was changed to be measured.
pub struct Benches<'a> {
    /// The machine.
    pub context: &'a Context,
    /// The directory of the journals.
    pub run: &'a PrivateDir,
    /// How long to wait for the kernel.
    pub timeout: Duration,
}

impl Benches<'_> {
    /// Finishes the bench of one group; without a session, only reports it.
    pub fn one(&self, group: GroupId, session: Option<&Session>) -> Recovered {
        let mut report = Recovered::new(group, Interrupted::Bench);
        let journal = match journal::read(self.run, group) {
            Ok(Some(journal)) => journal,
            // The process that had the journal has finished meanwhile.
            Ok(None) => {
                report.done = true;
                return report;
            }
            Err(error) => {
                report.message = Some(error.to_string());
                report.advice = vec![format!(
                    "see what `iommuctl show {group}` says, make it as it should be with `set-mode`, and remove the file"
                )];
                return report;
            }
        };
        report.old_type = Some(journal.original.to_string());
        report.request = journal
            .switched
            .then(|| journal.original.other().to_string());
        if let Some(session) = session {
            let restored = restore(self.context, session, &journal, self.timeout);
            report.done = restored.is_whole();
            report.message = Some(restored.describe(journal.original));
            report.advice = match restored {
                Restored::Later(_) => vec!["`iommuctl release`, and then this again".to_owned()],
                Restored::Failed(_) => {
                    vec![
                        "`modprobe iommu_live`, if it is not loaded, and then this again"
                            .to_owned(),
                    ]
                }
                Restored::Nothing(_) | Restored::Done | Restored::NotOurs(_) => Vec::new(),
            };
        }
        report.domain_type = self.context.sysfs.domain_type(group).ok().flatten();
        report
    }
}
