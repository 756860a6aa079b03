// SPDX-License-Identifier: GPL-2.0-only
//! What is known about the log, in `/var/lib/iommuctl`: one JSON object in a file, replaced whole.

use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::sys::private_dir::{PrivateDir, PrivateDirError};

/// What is kept in a file of its own.
pub trait Kept: Serialize + DeserializeOwned {
    /// The name of the file.
    const NAME: &'static str;
    /// What it is, for messages.
    const WHAT: &'static str;

    /// Reads it; `None` if there is none yet.
    fn read(folder: &PrivateDir) -> Result<Option<Self>, StateError> {
        let bytes = folder.read(Self::NAME)?;
        let kept = bytes.map(|bytes| serde_json::from_slice(&bytes));
        kept.transpose().map_err(broken::<Self>(folder))
    }

    /// Puts it in the place of the one before: whole, and synced, or not at all.
    fn write(&self, folder: &PrivateDir) -> Result<(), StateError> {
        let text = serde_json::to_vec(self).map_err(broken::<Self>(folder))?;
        Ok(folder.replace(Self::NAME, &text)?)
    }
}

/// It cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Its folder or file is not ours alone, or cannot be used.
    #[error(transparent)]
    Run(#[from] PrivateDirError),
    /// It is not what is written here.
    #[error("{path} is not {what}: {error}")]
    Broken {
        /// The file.
        path: String,
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        error: serde_json::Error,
    },
}

fn broken<T: Kept>(folder: &PrivateDir) -> impl FnOnce(serde_json::Error) -> StateError {
    let (path, what) = (folder.display(T::NAME), T::WHAT);
    move |error| StateError::Broken { path, what, error }
}
