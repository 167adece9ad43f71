//! The last input where there is no logind: the kernel notes when a terminal was read from, and `w` goes by that.

use std::{path::Path, time::SystemTime};

use super::entries;

/// Seconds since somebody typed at a terminal, of this computer or from elsewhere, or an input device was read; `None` if there
/// is nothing of the kind.
///
/// A terminal is as active as its reader: programs that only write to it do not count. The kernel rounds to 8 seconds.
pub(super) fn idle_seconds(dev: &Path) -> Option<u64> {
    let numbered = |folder: &str, prefix: &str| {
        let named = move |path: &std::path::PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let number = name.strip_prefix(prefix).unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        };
        entries(&dev.join(folder)).into_iter().filter(named).collect::<Vec<_>>()
    };
    let devices = [numbered("", "tty"), numbered("pts", ""), numbered("input", "event")].concat();
    let read = devices.iter().filter_map(|path| std::fs::metadata(path).ok()?.accessed().ok());
    let last = read.max()?;
    // A clock that was set back: just now, for all that is known.
    Some(SystemTime::now().duration_since(last).map_or(0, |since| since.as_secs()))
}
