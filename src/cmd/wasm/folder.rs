//! Folders of this machine as the files of a task, and the files of a task as a folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use eyre::{Context as _, bail};

/// `NAME=PATH`: what a program finds under `/NAME`.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    name: String,
    path: PathBuf,
}

pub(crate) fn parse_mount(text: &str) -> Result<Mount, String> {
    match text.split_once('=') {
        Some((name, path)) if !path.is_empty() => {
            Ok(Mount { name: name.trim_matches('/').to_owned(), path: path.into() })
        }
        _ => Err(format!("`{text}` is not NAME=PATH: what the program finds as /NAME, and where it is here")),
    }
}

/// Files and empty directories that a task gets, by path relative to its `/`.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) empty_directories: BTreeSet<String>,
}

impl Tree {
    /// Reads a file or folder, links followed.
    pub(crate) fn add(&mut self, mount: &Mount) -> eyre::Result<()> {
        if mount.name.is_empty() && !mount.path.is_dir() {
            bail!("{} is no folder: give it a name, as in --dir data=FILE", mount.path.display());
        }
        self.add_as(&mount.name, &mount.path)
    }

    fn add_as(&mut self, name: &str, path: &Path) -> eyre::Result<()> {
        let failed = || format!("cannot read {}", path.display());
        if !fs::metadata(path).wrap_err_with(failed)?.is_dir() {
            if self.files.insert(name.to_owned(), fs::read(path).wrap_err_with(failed)?).is_some() {
                bail!("there are two files for /{name}");
            }
            return Ok(());
        }
        let mut is_empty = true;
        for entry in fs::read_dir(path).wrap_err_with(failed)? {
            let entry = entry.wrap_err_with(failed)?;
            let Ok(child) = entry.file_name().into_string() else {
                bail!("{} has a name that is not UTF-8, which no program can open", entry.path().display());
            };
            is_empty = false;
            let child = if name.is_empty() { child } else { format!("{name}/{child}") };
            self.add_as(&child, &entry.path())?;
        }
        if is_empty && !name.is_empty() {
            self.empty_directories.insert(name.to_owned());
        }
        Ok(())
    }
}

/// Writes the files that a task left under `/out` into `folder`. Their paths have been checked when the output was decoded: no
/// part is empty, `.` or `..`.
pub(crate) fn write_files(folder: &Path, files: &[(&str, &[u8])]) -> eyre::Result<()> {
    for (path, content) in files {
        let at = folder.join(path);
        let failed = || format!("cannot write {}", at.display());
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent).wrap_err_with(failed)?;
        }
        fs::write(&at, content).wrap_err_with(failed)?;
    }
    Ok(())
}
