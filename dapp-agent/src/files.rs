//! What is said of files that cannot be used, wherever that is.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The system does not let a file or folder be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot access {path}: {source}")]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Says of which file it is.
pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { path, source }
}
