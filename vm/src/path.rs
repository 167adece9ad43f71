//! What is a path, for input files and output files alike: relative, parts joined by `/`.

/// Longest path of an input file, in bytes: `PATH_MAX` of most systems without the NUL. *Profile.*
pub(crate) const MAX_PATH_BYTES: usize = 4095;

/// Longest part of a path between two `/`, in bytes: `NAME_MAX` of most systems. *Profile.*
const MAX_NAME_BYTES: usize = 255;

/// Why a text is no path, if so.
pub(crate) fn check(path: &str) -> Result<(), &'static str> {
    if path.contains('\0') {
        return Err("it holds a NUL byte");
    }
    for name in path.split('/') {
        match name {
            "" => return Err("it is empty, or begins, ends or doubles with `/`"),
            "." | ".." => return Err("`.` and `..` are no names"),
            _ if name.len() > MAX_NAME_BYTES => return Err("a name in it is longer than 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}

/// Of paths in ascending order: one that is at the same time a directory of another.
///
/// The two need not be neighbours (`a`, `a-b`, `a/b`); but what lies inside of `a` begins where `a/` would be.
pub(crate) fn nested<'a>(paths: &[&'a str]) -> Option<&'a str> {
    paths.iter().copied().find(|path| {
        let inside = |other: &str| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        let first = paths.partition_point(|other| other.bytes().lt(path.bytes().chain([b'/'])));
        paths.get(first).is_some_and(|other| inside(other))
    })
}

/// A stranger's text for a terminal: escaped and shortened.
pub(crate) fn show(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().take(64).flat_map(char::escape_debug).collect()
}
