//! The input of a task as one blob: what every engine, and later the court, reads from. Format: `SPEC.md`, section 3.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::Error,
    limits::MAX_ARGS_BYTES,
    path::{self, MAX_PATH_BYTES},
    task::PROGRAM_NAME,
};

/// Largest input of a task, in bytes of the encoded blob: what the step machine's input region holds. *Profile.*
pub const MAX_INPUT_BYTES: u64 = 4 << 30;

const MAGIC: &[u8; 8] = b"CONUNIN1";
const HEADER_BYTES: usize = 72;
const ENTRY_BYTES: usize = 24;
const EMPTY_DIRECTORY: u32 = 1;

/// All that a task finds in its world: arguments, environment, seed, standard input, files.
///
/// Everything is borrowed, so that neither encoding nor decoding copies a long standard input more than once. There is
/// exactly one blob for one input: what [`decode`](Self::decode) accepts, [`encode`](Self::encode) makes again.
///
/// # Example: a file and a line of standard input
///
/// ```
/// use conun_vm::Input;
///
/// let mut input = Input { stdin: b"42\n", ..Input::default() };
/// input.files.insert("data/table.csv", b"1,2,3\n");
/// let blob = input.encode()?;
/// assert_eq!(Input::decode(&blob)?, input);
/// # Ok::<(), conun_vm::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input<'a> {
    /// Arguments after the program's name (`argv[1]` and on); `argv[0]` is always [`PROGRAM_NAME`]. At most
    /// [`MAX_ARGS_BYTES`] together, each counted with a NUL behind it.
    pub args: Vec<&'a str>,
    /// Environment variables, name and value, in the order in which the program finds them. At most [`MAX_ARGS_BYTES`]
    /// together, each counted as `NAME=value` with a NUL behind it.
    pub env: Vec<(&'a str, &'a str)>,
    /// Where random bytes and clocks begin.
    pub seed: [u8; 32],
    /// Standard input.
    pub stdin: &'a [u8],
    /// Read-only files by their path, relative to `/`. See [`Error::InputPath`] for what is no path.
    pub files: BTreeMap<&'a str, &'a [u8]>,
    /// Read-only directories in which there is nothing. All other directories follow from the files.
    pub empty_directories: BTreeSet<&'a str>,
}

impl<'a> Input<'a> {
    /// The blob that providers fetch and programs read.
    ///
    /// # Errors
    ///
    /// An argument, a variable or a path that no program can get, or an input longer than [`MAX_INPUT_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let args = self.encode_args()?;
        let env = self.encode_env()?;
        let (table, contents) = self.encode_table(HEADER_BYTES + args.len() + env.len())?;
        let rest = [args.len(), env.len(), table.len(), self.stdin.len()];
        let len = HEADER_BYTES as u64 + rest.iter().map(|&part| part as u64).sum::<u64>() + contents;
        if len > MAX_INPUT_BYTES {
            return Err(Error::InputTooLong { len });
        }
        let mut blob = Vec::with_capacity(usize::try_from(len).map_err(|_| Error::InputTooLong { len })?);
        blob.extend_from_slice(MAGIC);
        blob.extend_from_slice(&self.seed);
        for (count, bytes) in [
            (self.args.len() + 1, args.len()),
            (self.env.len(), env.len()),
            (self.files.len() + self.empty_directories.len(), table.len()),
        ] {
            blob.extend_from_slice(&low_u32(count).to_le_bytes());
            blob.extend_from_slice(&low_u32(bytes).to_le_bytes());
        }
        blob.extend_from_slice(&(self.stdin.len() as u64).to_le_bytes());
        for part in [args.as_slice(), &env, &table, self.stdin] {
            blob.extend_from_slice(part);
        }
        for content in self.files.values() {
            blob.extend_from_slice(content);
        }
        Ok(blob)
    }

    fn encode_args(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = [PROGRAM_NAME.as_bytes(), b"\0"].concat();
        for (index, arg) in self.args.iter().enumerate() {
            if arg.contains('\0') {
                return Err(Error::ArgWithNul { index });
            }
            bytes.extend_from_slice(arg.as_bytes());
            bytes.push(0);
        }
        let len = bytes.len() - PROGRAM_NAME.len() - 1;
        if len > MAX_ARGS_BYTES { Err(Error::ArgsTooLong { len }) } else { Ok(bytes) }
    }

    fn encode_env(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(Error::EnvVariable { name: path::show(name.as_bytes()) });
            }
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(b'=');
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        }
        if bytes.len() > MAX_ARGS_BYTES { Err(Error::EnvTooLong { len: bytes.len() }) } else { Ok(bytes) }
    }

    /// The file table for contents that begin behind `before` bytes, the table and standard input; and the contents'
    /// length.
    fn encode_table(&self, before: usize) -> Result<(Vec<u8>, u64), Error> {
        let mut entries: BTreeMap<&str, Option<&[u8]>> =
            self.files.iter().map(|(path, content)| (*path, Some(*content))).collect();
        for directory in &self.empty_directories {
            if entries.insert(directory, None).is_some() {
                return Err(bad_path(directory, "it is both a file and an empty directory"));
            }
        }
        let paths: Vec<&str> = entries.keys().copied().collect();
        check_paths(&paths)?;
        let table: u64 = paths.iter().map(|path| (ENTRY_BYTES + path.len()) as u64).sum();
        if table > u64::from(u32::MAX) {
            return Err(Error::InputTooLong { len: table });
        }
        let begin = before as u64 + table + self.stdin.len() as u64;
        let (mut bytes, mut at) = (Vec::with_capacity(low_u32_len(table)), begin);
        for (path, content) in entries {
            let (offset, len, flags) = match content {
                Some(content) => (at, content.len() as u64, 0),
                None => (0, 0, EMPTY_DIRECTORY),
            };
            at += len;
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&low_u32(path.len()).to_le_bytes());
            bytes.extend_from_slice(&flags.to_le_bytes());
            bytes.extend_from_slice(path.as_bytes());
        }
        Ok((bytes, at - begin))
    }

    /// Reads a blob, whoever made it. Costs time in proportion to its length.
    ///
    /// # Errors
    ///
    /// [`Error::InputMalformed`], or what [`encode`](Self::encode) refuses.
    pub fn decode(blob: &'a [u8]) -> Result<Self, Error> {
        if blob.len() as u64 > MAX_INPUT_BYTES {
            return Err(Error::InputTooLong { len: blob.len() as u64 });
        }
        let mut reader = Reader(blob);
        if reader.array::<8>()? != *MAGIC {
            return Err(malformed("it does not begin with CONUNIN1"));
        }
        let seed = reader.array()?;
        let [args, env, table] = [reader.extent()?, reader.extent()?, reader.extent()?];
        let stdin = reader.u64()?;
        let args = decode_args(strings(reader.take(args.bytes)?, args.count)?)?;
        let env = decode_env(strings(reader.take(env.bytes)?, env.count)?)?;
        let mut entries = Reader(reader.take(table.bytes)?);
        let stdin = reader.take(stdin)?;
        let mut at = (blob.len() - reader.0.len()) as u64;
        let (mut files, mut empty_directories, mut paths) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        for _ in 0..table.count {
            let [offset, len] = [entries.u64()?, entries.u64()?];
            let [path_len, flags] = [entries.u32()?, entries.u32()?];
            let path = text(entries.take(path_len.into())?)?;
            paths.push(path);
            match flags {
                0 if offset == at => {
                    files.insert(path, reader.take(len)?);
                    at += len;
                }
                EMPTY_DIRECTORY if offset == 0 && len == 0 => {
                    empty_directories.insert(path);
                }
                _ => return Err(malformed("its file table does not describe its contents in order")),
            }
        }
        if !entries.0.is_empty() || !reader.0.is_empty() {
            return Err(malformed("there are bytes that nothing describes"));
        }
        if !paths.is_sorted_by(|a, b| a < b) {
            return Err(malformed("the paths of its files are not in ascending order"));
        }
        check_paths(&paths)?;
        let input = Self { args, env, seed, stdin, files, empty_directories };
        // What is left are the caps of what was read.
        input.encode_args()?;
        input.encode_env()?;
        Ok(input)
    }
}

fn decode_args(args: Vec<&str>) -> Result<Vec<&str>, Error> {
    match args.split_first() {
        Some((&PROGRAM_NAME, rest)) => Ok(rest.to_vec()),
        _ => Err(malformed("its first argument is not the program's name")),
    }
}

fn decode_env(env: Vec<&str>) -> Result<Vec<(&str, &str)>, Error> {
    let pairs = env.into_iter().map(|variable| variable.split_once('='));
    pairs.collect::<Option<_>>().ok_or_else(|| malformed("an environment variable has no `=`"))
}

/// `count` strings, each with a NUL behind it.
fn strings(bytes: &[u8], count: u32) -> Result<Vec<&str>, Error> {
    let wrong = || malformed("its arguments or environment variables are not as many as it says");
    let Some(all) = bytes.strip_suffix(b"\0") else {
        return if bytes.is_empty() && count == 0 { Ok(Vec::new()) } else { Err(wrong()) };
    };
    let strings = all.split(|&byte| byte == 0).map(text).collect::<Result<Vec<_>, _>>()?;
    if strings.len() as u64 == u64::from(count) { Ok(strings) } else { Err(wrong()) }
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| malformed("a text in it is not UTF-8"))
}

/// Paths in ascending order: each possible, none inside another, none where outputs go.
fn check_paths(paths: &[&str]) -> Result<(), Error> {
    for &path in paths {
        if path.len() > MAX_PATH_BYTES {
            return Err(bad_path(path, "it is longer than 4,095 bytes"));
        }
        path::check(path).map_err(|reason| bad_path(path, reason))?;
        if path == "out" || path.starts_with("out/") {
            return Err(bad_path(path, "`/out` is where the task's output files go"));
        }
    }
    match path::nested(paths) {
        Some(path) => Err(bad_path(path, "another path lies inside it")),
        None => Ok(()),
    }
}

fn bad_path(path: &str, reason: &'static str) -> Error {
    Error::InputPath { path: path::show(path.as_bytes()), reason }
}

fn malformed(reason: &'static str) -> Error {
    Error::InputMalformed { reason }
}

/// Counts and lengths below 2^32 bytes of input, which is checked before anything is written.
fn low_u32(value: usize) -> u32 {
    u32::try_from(value).expect("what fits into an input is below 2^32")
}

fn low_u32_len(value: u64) -> usize {
    usize::try_from(value).expect("at most 2^32 bytes, and addresses have 32 bits or more")
}

struct Extent {
    count: u32,
    bytes: u64,
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], Error> {
        let parts = usize::try_from(len).ok().and_then(|len| self.0.split_at_checked(len));
        let (taken, rest) = parts.ok_or_else(|| malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        Ok(self.take(N as u64)?.try_into().expect("N bytes were taken"))
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    fn extent(&mut self) -> Result<Extent, Error> {
        Ok(Extent { count: self.u32()?, bytes: self.u32()?.into() })
    }
}
