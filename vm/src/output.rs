//! The output of a WASI program: standard output and files in one blob. Format: `SPEC.md`, section 3.

use crate::{error::Error, path};

/// What every output of a WASI program ends with, in bytes: lengths of standard output and of the file table.
///
/// It counts towards the job's output limit. Written by the program's last call, it costs 712 fuel (200 for the call,
/// 32 a byte) and some hundred instructions.
pub const OUTPUT_FOOTER_BYTES: usize = 16;

/// What each file under `/out` adds to the output besides its content and its path, in bytes.
pub const OUTPUT_ENTRY_BYTES: usize = 12;

/// What a WASI program left behind: borrowed from the output that its root commits to.
///
/// Only for programs that import WASI functions: the output of one that imports `conun` alone has no form.
///
/// # Example: standard output of a task
///
/// ```
/// use conun_vm::Output;
///
/// let blob = Output { stdout: b"6 * 7 = 42\n", files: vec![("answer", b"42")] }.encode();
/// let output = Output::decode(&blob)?;
/// assert_eq!(output.stdout, b"6 * 7 = 42\n");
/// assert_eq!(output.file("answer"), Some(b"42".as_slice()));
/// # Ok::<(), conun_vm::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output<'a> {
    /// Standard output.
    pub stdout: &'a [u8],
    /// Files under `/out`: path relative to it, and content; in ascending order of paths, none inside another. No part
    /// of a path is empty, `.` or `..`; but names are a stranger's, and may be any other UTF-8 without NUL.
    pub files: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Output<'a> {
    /// Reads an output, whoever made it. Costs time and memory in proportion to its length.
    ///
    /// # Errors
    ///
    /// [`Error::OutputMalformed`]: no WASI program made these bytes.
    pub fn decode(output: &'a [u8]) -> Result<Self, Error> {
        let (rest, footer) = output
            .split_last_chunk::<OUTPUT_FOOTER_BYTES>()
            .ok_or_else(|| malformed("it is shorter than its footer"))?;
        let (stdout_len, footer) = take_u64(footer)?;
        let (count, footer) = take_u32(footer)?;
        let (table_len, _) = take_u32(footer)?;
        let contents = rest.len().checked_sub(table_len as usize).ok_or_else(|| malformed("its table is cut off"))?;
        let (contents, mut table) = rest.split_at(contents);
        let (stdout, mut contents) = take(contents, stdout_len)?;

        let (mut files, mut paths) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (len, rest) = take_u64(table)?;
            let (path_len, rest) = take_u32(rest)?;
            let (path, rest) = take(rest, path_len.into())?;
            table = rest;
            let (content, rest) = take(contents, len)?;
            contents = rest;
            let path = std::str::from_utf8(path).map_err(|_| malformed("a path in it is not UTF-8"))?;
            path::check(path).map_err(|_| malformed("a path in it is impossible"))?;
            if paths.last().is_some_and(|last| *last >= path) {
                return Err(malformed("its paths are not in ascending order"));
            }
            paths.push(path);
            files.push((path, content));
        }
        if !table.is_empty() || !contents.is_empty() {
            return Err(malformed("there are bytes that nothing describes"));
        }
        if path::nested(&paths).is_some() {
            return Err(malformed("a file in it is also a directory"));
        }
        Ok(Self { stdout, files })
    }

    /// The content of a file, by its path relative to `/out`.
    pub fn file(&self, path: &str) -> Option<&'a [u8]> {
        let found = self.files.binary_search_by(|(name, _)| (*name).cmp(path)).ok()?;
        Some(self.files[found].1)
    }

    /// The bytes that a WASI program with this standard output and these files would leave; for tests and simulations.
    /// Files must be in ascending order of their paths.
    pub fn encode(&self) -> Vec<u8> {
        let (mut output, mut table) = (self.stdout.to_vec(), Vec::new());
        for (path, content) in &self.files {
            output.extend_from_slice(content);
            table.extend_from_slice(&(content.len() as u64).to_le_bytes());
            table.extend_from_slice(&(path.len() as u32).to_le_bytes());
            table.extend_from_slice(path.as_bytes());
        }
        output.extend_from_slice(&table);
        output.extend_from_slice(&(self.stdout.len() as u64).to_le_bytes());
        output.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        output.extend_from_slice(&(table.len() as u32).to_le_bytes());
        output
    }
}

fn malformed(reason: &'static str) -> Error {
    Error::OutputMalformed { reason }
}

fn take(bytes: &[u8], len: u64) -> Result<(&[u8], &[u8]), Error> {
    let parts = usize::try_from(len).ok().and_then(|len| bytes.split_at_checked(len));
    parts.ok_or_else(|| malformed("it ends too early"))
}

fn take_u32(bytes: &[u8]) -> Result<(u32, &[u8]), Error> {
    let (value, rest) = bytes.split_first_chunk().ok_or_else(|| malformed("it ends too early"))?;
    Ok((u32::from_le_bytes(*value), rest))
}

fn take_u64(bytes: &[u8]) -> Result<(u64, &[u8]), Error> {
    let (value, rest) = bytes.split_first_chunk().ok_or_else(|| malformed("it ends too early"))?;
    Ok((u64::from_le_bytes(*value), rest))
}
