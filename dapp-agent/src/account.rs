//! Encrypted accounts: Web3 Secret Storage version 3, in foundry's folder and format.
//!
//! `cast wallet import NAME` makes a file that [`open`] opens, and the other way round.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use alloy::{
    primitives::Address,
    signers::{
        k256::elliptic_curve::rand_core::OsRng,
        local::{LocalSignerError, PrivateKeySigner},
    },
};
use serde::Serialize;

use crate::files::{FileError, io_error};

/// An account's file, without opening it.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    /// File name: what `--account` takes.
    pub name: String,
    /// The address, where the file says so in plain text; foundry's files do not.
    pub address: Option<Address>,
}

/// Why an account cannot be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such file.
    #[error("there is no account {name} in {dir}{}: make one with `conun account new {name}`, or import a key with `conun account import {name}`", known(.accounts))]
    Missing {
        /// The name given.
        name: String,
        /// Keystore folder.
        dir: PathBuf,
        /// Accounts that are there.
        accounts: Vec<String>,
    },
    /// The name is taken.
    #[error("there is an account {name} in {dir} already: choose another name; nothing was overwritten")]
    Exists {
        /// The name given.
        name: String,
        /// Keystore folder.
        dir: PathBuf,
    },
    /// The name cannot be a file name.
    #[error("`{0}` cannot be an account's name: use letters, digits, `-`, `_` and `.`")]
    BadName(String),
    /// The password does not open the file.
    #[error("wrong password for account {0}")]
    WrongPassword(String),
    /// The file is no keystore.
    #[error("{path} is not an encrypted account: {reason}")]
    NotAKeystore {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

fn known(accounts: &[String]) -> String {
    if accounts.is_empty() { String::new() } else { format!(" (there are: {})", accounts.join(", ")) }
}

/// File of account `name`: in `dir`, or `name` itself if it is a path.
pub fn file(dir: &Path, name: &str) -> PathBuf {
    if name.contains(std::path::MAIN_SEPARATOR) { PathBuf::from(name) } else { dir.join(name) }
}

/// Fails unless there is an account `name`.
///
/// # Errors
/// [`Error::Missing`], which lists what is there.
pub fn require(dir: &Path, name: &str) -> Result<(), Error> {
    if file(dir, name).is_file() {
        return Ok(());
    }
    let accounts = list(dir)?.into_iter().map(|account| account.name).collect();
    Err(Error::Missing { name: name.to_owned(), dir: dir.to_owned(), accounts })
}

/// Fails unless `name` is a good name that is not taken.
///
/// # Errors
/// [`Error::BadName`] or [`Error::Exists`].
pub fn ensure_free(dir: &Path, name: &str) -> Result<(), Error> {
    let good = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(good) {
        return Err(Error::BadName(name.to_owned()));
    }
    match dir.join(name).exists() {
        true => Err(Error::Exists { name: name.to_owned(), dir: dir.to_owned() }),
        false => Ok(()),
    }
}

/// Makes a new account.
///
/// # Errors
/// If the name is bad or taken, or the file system refuses.
pub fn create(dir: &Path, name: &str, password: &str) -> Result<PrivateKeySigner, Error> {
    let signer = PrivateKeySigner::random_with(&mut OsRng);
    import(dir, name, &signer, password)?;
    Ok(signer)
}

/// Stores a key, readable by its owner alone.
///
/// # Errors
/// As [`create`].
pub fn import(dir: &Path, name: &str, signer: &PrivateKeySigner, password: &str) -> Result<(), Error> {
    ensure_free(dir, name)?;
    fs::create_dir_all(dir).map_err(io_error(dir))?;
    // Encrypted inside a folder that only the owner can enter, then moved into place whole.
    let draft = tempfile::Builder::new().prefix(".draft").tempdir_in(dir).map_err(io_error(dir))?;
    let refused = |error: LocalSignerError| io_error(&dir.join(name))(io::Error::other(error));
    PrivateKeySigner::encrypt_keystore(draft.path(), &mut OsRng, signer.to_bytes(), password, Some(name))
        .map_err(refused)?;
    let from = draft.path().join(name);
    owner_only(&from)?;
    // `hard_link` fails where `rename` would overwrite what came meanwhile.
    fs::hard_link(&from, dir.join(name)).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists { name: name.to_owned(), dir: dir.to_owned() },
        _ => io_error(&dir.join(name))(source).into(),
    })
}

#[cfg(unix)]
fn owner_only(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io_error(path))?)
}

#[cfg(not(unix))]
fn owner_only(_: &Path) -> Result<(), Error> {
    Ok(())
}

/// The accounts in `dir`, by name; none if there is no such folder.
///
/// # Errors
/// If the folder cannot be read.
pub fn list(dir: &Path) -> Result<Vec<Account>, Error> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error(dir))?,
    };
    let mut accounts = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error(dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| !name.starts_with('.') && path.is_file()) else { continue };
        // Files of other kinds lie in such folders, too.
        let Ok(text) = fs::read(&path) else { continue };
        let Ok(content) = serde_json::from_slice::<serde_json::Value>(&text) else { continue };
        if content.get("crypto").or_else(|| content.get("Crypto")).is_some() {
            let address = content.get("address").and_then(|address| address.as_str()?.parse().ok());
            accounts.push(Account { name: name.to_owned(), address });
        }
    }
    accounts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(accounts)
}

/// Opens an account.
///
/// # Errors
/// If it is missing, no keystore, or the password is wrong.
pub fn open(dir: &Path, name: &str, password: &str) -> Result<PrivateKeySigner, Error> {
    require(dir, name)?;
    let path = file(dir, name);
    PrivateKeySigner::decrypt_keystore(&path, password).map_err(|error| {
        // The crate's own type for a wrong password is not exported by alloy.
        let reason = error.to_string();
        match reason.to_lowercase().contains("mac") {
            true => Error::WrongPassword(name.to_owned()),
            false => Error::NotAKeystore { path, reason },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_opens_with_its_password_only() {
        let dir = tempfile::tempdir().unwrap();
        let made = create(dir.path(), "alice", "secret").unwrap();
        assert_eq!(open(dir.path(), "alice", "secret").unwrap().address(), made.address());
        assert!(matches!(open(dir.path(), "alice", "Secret"), Err(Error::WrongPassword(_))));
        let missing = open(dir.path(), "bob", "secret").unwrap_err().to_string();
        assert!(missing.contains("there are: alice"), "{missing}");
    }

    #[test]
    fn nothing_is_overwritten_and_bad_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let made = create(dir.path(), "a", "x").unwrap();
        assert!(matches!(create(dir.path(), "a", "y"), Err(Error::Exists { .. })));
        assert_eq!(open(dir.path(), "a", "x").unwrap().address(), made.address());
        for name in ["", ".hidden", "a/b", "../a", "a b", "-x"] {
            assert!(matches!(create(dir.path(), name, "x"), Err(Error::BadName(_))), "{name}");
        }
        assert_eq!(list(dir.path()).unwrap().len(), 1, "no drafts are left behind");
    }

    #[test]
    fn other_files_are_neither_listed_nor_opened() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes"), "hello").unwrap();
        assert!(list(dir.path()).unwrap().is_empty());
        assert!(matches!(open(dir.path(), "notes", "x"), Err(Error::NotAKeystore { .. })));
        assert!(list(&dir.path().join("nowhere")).unwrap().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_an_account() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), "a", "x").unwrap();
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
