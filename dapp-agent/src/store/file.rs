//! The journal's file, with room on the disk that nobody else can take.

use std::{fs::File, io};

use redb::{StorageBackend, backends::FileBackend};

/// Bytes of the disk that are kept for the journal beyond its end: on a full disk it still takes what has to be noted before
/// a result can be shown.
const RESERVE: u64 = 4 << 20;

/// Less room than this is not asked for.
#[cfg(target_os = "linux")]
const LEAST: u64 = 64 << 10;

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

    /// Keeps room after `len` bytes, as much of it as there is. Without it the journal works as long as the disk has room.
    fn reserve(&self, len: u64) {
        #[cfg(target_os = "linux")]
        {
            let end = len + RESERVE;
            let (mut from, mut size) = (0, end);
            // A file system gives all that it is asked for, or nothing.
            while from < end && size >= LEAST {
                size = size.min(end - from);
                match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::KEEP_SIZE, from, size) {
                    Ok(()) => from += size,
                    Err(error) => {
                        tracing::debug!(target: "conun::store", %error, size, "less room is kept for the journal");
                        size /= 2;
                    }
                }
            }
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
