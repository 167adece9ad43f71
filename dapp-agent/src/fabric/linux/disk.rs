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
