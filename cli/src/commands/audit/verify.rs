// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl audit verify`: whether the log is as it was written.

use serde::Serialize;

use super::{places, snapshot};
use crate::audit::clock;
use crate::audit::log::json_file::{Kept as _, StateError};
use crate::audit::log::last_verified::Checked;
use crate::audit::log::verify::{verify, Verdict};
use crate::audit::settings;
use crate::cli::Global;
use crate::exit::Exit;
use crate::render;
use crate::sys::private_dir::OwnDir;
use crate::sys::trusted::Root;
use crate::terminal::output::Output;

/// What `audit verify` found.
#[derive(Debug, Serialize)]
pub struct VerifyReport {
    pub intact: bool,
    #[serde(flatten)]
    pub verdict: Verdict,
    pub exit_code: u8,
}

/// Runs the command.
pub fn run(global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let places = places(global);
    let key = settings::key(&Root::open(global.root.as_deref())?)?;
    let verdict = verify(snapshot(&places)?, key.as_ref())?;
    let intact = verdict.is_intact();
    let exit = if intact { Exit::Done } else { Exit::Refused };
    let checked = Checked {
        time: clock::now(),
        intact,
        records: verdict.records,
    };
    let kept = OwnDir::make(Some(&places.state())).map_err(StateError::from);
    if let Err(error) = kept.and_then(|folder| checked.write(&folder)) {
        output.warn(&format!("monitoring will not know of this: {error}"));
    }
    let report = VerifyReport {
        intact,
        verdict,
        exit_code: exit.code(),
    };
    output.report(&report, |w, r| render::audit::verify::write(w, r))?;
    if !intact {
        output.complain(&format!("{} is not as it was written", places.display()));
    }
    Ok(exit)
}
