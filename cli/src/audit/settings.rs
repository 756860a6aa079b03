// SPDX-License-Identifier: GPL-2.0-only
//! The configuration of the audit: `/etc/iommuctl/audit.yaml`, and the key for anchors.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use iommuctl_policy::{parse_audit_settings, AuditSettings, ParseError};

use super::log::chain::Key;
use super::log::file::{Log, Places, Rotation};
use crate::sys::trusted::{Content, Root, TrustError};

const FOLDER: &str = "etc/iommuctl";
const SETTINGS: &str = "audit.yaml";
const KEY: &str = "audit.key";
/// The name of the key as a credential of a unit (`LoadCredential=`, `LoadCredentialEncrypted=`; systemd.exec(5)).
const CREDENTIAL: &str = "iommuctl.audit-key";

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// They cannot be read, or others can write them.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// They are invalid.
    #[error("{path}:{error}")]
    Wrong {
        /// The file.
        path: String,
        /// What is wrong, and where.
        error: ParseError,
    },
    /// Others can read the key.
    #[error("{path} can be read by others than root (mode {mode:04o}), and is no key then; make a new one, and `chmod 600` it")]
    Readable {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// The key is too short.
    #[error(
        "{path} has fewer than {} bytes, which is too short for a key",
        Key::SHORTEST
    )]
    Short {
        /// The file.
        path: String,
    },
    /// The key cannot be read.
    #[error("Failed to read {path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
}

/// The settings, and the log configured with them, below `root` (default `/`).
pub fn log(root: Option<&Path>) -> Result<(AuditSettings, Log), SettingsError> {
    let trusted = Root::open(root)?;
    let settings = read(&trusted)?;
    let rotation = Rotation {
        bytes: u64::from(settings.rotate.size_mib.max(1)) * 1024 * 1024,
        keep: settings.rotate.keep,
    };
    let log = Log::new(Places::new(root), rotation, key(&trusted)?);
    Ok((settings, log))
}

/// Reads the settings; the defaults if there is no file.
fn read(root: &Root) -> Result<AuditSettings, SettingsError> {
    let Some(folder) = root.dir(FOLDER)? else {
        return Ok(AuditSettings::default());
    };
    match folder.read(SETTINGS)? {
        Content::Text(text) => parse_audit_settings(&text).map_err(|error| SettingsError::Wrong {
            path: folder.display(SETTINGS),
            error,
        }),
        Content::Masked | Content::Absent => Ok(AuditSettings::default()),
    }
}

/// Reads the key; `None` if there is none. A credential of the unit has priority over the file.
pub fn key(root: &Root) -> Result<Option<Key>, SettingsError> {
    if let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let path = Path::new(&folder).join(CREDENTIAL);
        match std::fs::read(&path) {
            Ok(bytes) => return secret(&bytes, &path.display().to_string()).map(Some),
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => {}
            Err(error) => {
                let path = path.display().to_string();
                return Err(SettingsError::Unreadable { path, error });
            }
        }
    }
    let Some(folder) = root.dir(FOLDER)? else {
        return Ok(None);
    };
    let Content::Text(text) = folder.read(KEY)? else {
        return Ok(None);
    };
    let path = folder.display(KEY);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            let mode = metadata.permissions().mode() & 0o7777;
            Err(SettingsError::Readable { path, mode })
        }
        Ok(_) => secret(text.as_bytes(), &path).map(Some),
        Err(error) => Err(SettingsError::Unreadable { path, error }),
    }
}

fn secret(bytes: &[u8], path: &str) -> Result<Key, SettingsError> {
    Key::new(bytes).ok_or_else(|| SettingsError::Short {
        path: path.to_owned(),
    })
}
