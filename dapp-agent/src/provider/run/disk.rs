//! Whether the disk takes what has to be kept: without, nothing new is taken on, and what is due goes on.

use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use super::{super::Error, Agent, Running};
use crate::core::Event;

/// Time between looks while nothing is wrong, and while something is. Whatever else fails has it looked at at once.
const LOOK: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Bytes that must fit.
const ROOM: usize = 1 << 20;

/// Why nothing can be kept in a data folder, if so.
pub fn disk_trouble(folder: &Path) -> Option<String> {
    let written = tempfile::tempfile_in(folder);
    let written = written.and_then(|mut file| file.write_all(&vec![0; ROOM]));
    let error = written.err()?;
    Some(format!("nothing can be kept in {}: {error}", folder.display()))
}

impl<T: FnMut(Running)> Agent<T> {
    /// Looks whether what has to be kept can be, and tells when that changes.
    ///
    /// # Errors
    /// [`Error::StoreLost`] if blobs are lost to this agent until it starts anew, and it can.
    pub(super) async fn watch_disk(&mut self) -> Result<(), Error> {
        let failed = self.executor.journal.failure().is_some();
        let pause = if failed || self.status.disk.is_some() { LOOK_AGAIN } else { LOOK };
        if self.disk_looked.is_some_and(|at| at.elapsed() < pause) {
            return Ok(());
        }
        self.disk_looked = Some(Instant::now());
        let journal = self.executor.journal.probe().err();
        let trouble = journal.map(|error| error.to_string()).or_else(|| disk_trouble(&self.folder));
        if trouble != self.status.disk {
            self.status.disk = trouble;
            match self.status.disk.clone() {
                Some(text) => {
                    self.disk_failed = true;
                    self.step(Event::Paused(true));
                    self.trouble(format!("{text}; takes nothing new until that has changed"));
                }
                None => {
                    self.unpublished.values_mut().for_each(|at| *at = Instant::now());
                    (self.tell)(Running::Guest("the disk can be written again".to_owned()));
                }
            }
        }
        // The store closes for good when a write fails.
        if self.status.disk.is_none() && self.executor.node.look_at(&[0; 32]).await.is_err() {
            return Err(Error::StoreLost { path: self.folder.join("blobs"), disk_failed: self.disk_failed });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_written_is_told_with_the_systems_reason() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(disk_trouble(folder.path()), None);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left behind");
        let text = disk_trouble(&folder.path().join("gone")).unwrap();
        assert!(text.contains("nothing can be kept in") && text.contains("No such file"), "{text}");
    }
}
