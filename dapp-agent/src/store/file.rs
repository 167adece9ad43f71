//! The journal's file, with room on the disk that nobody else can take.

use std::{fs::File, io};

use redb::{StorageBackend, backends::FileBackend};

/// Bytes of the disk that are kept for the journal beyond its end: on a full disk it still takes what has to be noted before
/// a result can be shown.
const RESERVE: u64 = 4 << 20;

/// Who opens it holds its lock.
#[derive(Debug)]
pub(super) struct JournalFile {
    backend: FileBackend,
    /// The same file.
    file: File,
}

impl JournalFile {
    pub(super) fn new(file: File) -> Result<Self, redb::DatabaseError> {
        // After a failed fsync the system may show what is not on the disk.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        Ok(Self { file: file.try_clone()?, backend: FileBackend::new(file)? })
    }

    /// Keeps room after `len` bytes. Without it the journal works as long as the disk has room.
    fn reserve(&self, len: u64) {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, len + RESERVE) {
            tracing::debug!(target: "conun::store", %error, "no room is kept for the journal");
        }
    }
}

impl StorageBackend for JournalFile {
    fn len(&self) -> io::Result<u64> {
        let len = self.backend.len()?;
        self.reserve(len);
        Ok(len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)?;
        self.reserve(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }
}
