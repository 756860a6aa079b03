// SPDX-License-Identifier: GPL-2.0-only
//! The state of the log, in `/var/lib/iommuctl`: one JSON object in a file, replaced atomically.

use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::sys::private_dir::{PrivateDir, PrivateDirError};

/// A state that has a file of its own.
pub trait Kept: Serialize + DeserializeOwned {
    /// The name of the file.
    const NAME: &'static str;
    /// A description of the state, for messages.
    const WHAT: &'static str;

    /// Reads the file; `None` if there is none yet.
    fn read(folder: &PrivateDir) -> Result<Option<Self>, StateError> {
        let bytes = folder.read(Self::NAME)?;
        let kept = bytes.map(|bytes| serde_json::from_slice(&bytes));
        kept.transpose().map_err(broken::<Self>(folder))
    }

    /// Replaces the file, atomically and synced.
    fn write(&self, folder: &PrivateDir) -> Result<(), StateError> {
        let text = serde_json::to_vec(self).map_err(broken::<Self>(folder))?;
        Ok(folder.replace(Self::NAME, &text)?)
    }
}

/// The file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory or file cannot be used, or somebody else can write it.
    #[error(transparent)]
    Run(#[from] PrivateDirError),
    /// The content is not such a state.
    #[error("{path} is not {what}: {error}")]
    Broken {
        /// The file.
        path: String,
        /// The description of the state.
        what: &'static str,
        /// What is wrong.
        error: serde_json::Error,
    },
}

fn broken<T: Kept>(folder: &PrivateDir) -> impl FnOnce(serde_json::Error) -> StateError {
    let (path, what) = (folder.display(T::NAME), T::WHAT);
    move |error| StateError::Broken { path, what, error }
}
