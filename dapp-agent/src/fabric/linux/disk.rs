//! Disk space.

use std::path::Path;

/// Size of everything in a folder, bytes on the disk.
pub(super) fn used(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;

    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => used(&entry.path()),
        Ok(data) => data.blocks() * 512,
        // It was deleted meanwhile.
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// What is free on a folder's disk, bytes, for those who are not root.
pub(super) fn free(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
