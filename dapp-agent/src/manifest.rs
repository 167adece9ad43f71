//! What travels between requester and provider beside the bytes themselves: which inputs a job has, which outputs a batch.
//!
//! Both are canonical (one encoding for one content), versioned and capped. A job's `inputs` and a result's `outputs` on
//! chain are the BLAKE3 hashes of these encodings. Numbers are little-endian.
//!
//! What a task reads is one blob ([`conun_vm::Input`]). It does not travel: standard inputs and shared files do, and everybody
//! puts the blob together alike ([`InputManifest::input`]). The chain commits to the root of the blob.
//!
//! | input manifest | bytes |
//! |---|---|
//! | magic `CONUNIN` and version 3 | 8 |
//! | whether the job is private (0 or 1) | 1 |
//! | seed | 32 |
//! | number of arguments; each: length, UTF-8 text | 4; 4, n |
//! | number of environment variables; each: length and UTF-8 text of its name, then of its value | 4; 4, n, 4, n |
//! | number of files, in ascending order of paths; each: length and text of its path, BLAKE3 hash, length | 4; 4, n, 32, 8 |
//! | number of tasks; each: BLAKE3 hash and length of its standard input, region root of its blob | 4; 32, 8, 32 |
//!
//! | result manifest | bytes |
//! |---|---|
//! | magic `CONUNRE` and version 1 | 8 |
//! | job id, batch | 32, 4 |
//! | number of results; each: ok (0 or 1), exit code, fuel, BLAKE3 hash, region root, length of its output | 4; 1, 4, 8, 32, 32, 8 |

use alloy::primitives::B256;
use bytes::Bytes;
use conun_bindings::commit::{self, ResultLeaf, ResultTree, TreeError};
use conun_vm::{Input, Outcome};

const INPUT_MAGIC: [u8; 8] = *b"CONUNIN\x03";
const RESULT_MAGIC: [u8; 8] = *b"CONUNRE\x01";

/// Most bytes of an input manifest: about 900,000 tasks.
pub const MAX_INPUT_MANIFEST: u64 = 64 << 20;

/// Largest standard input of a task, bytes.
pub const MAX_STDIN_BYTES: u64 = 64 << 20;

/// Most bytes of all files that the tasks of a job share: each task's blob holds them.
pub const MAX_FILES_BYTES: u64 = 64 << 20;

/// Most bytes of a result manifest: a batch of 65,536 tasks needs 5.5 MiB.
pub const MAX_RESULT_MANIFEST: u64 = 8 << 20;

/// Content hash of a blob: what iroh fetches by.
pub type BlobHash = [u8; 32];

/// Content hash of `bytes`.
pub fn blob_hash(bytes: &[u8]) -> BlobHash {
    *blake3::hash(bytes).as_bytes()
}

/// A blob by both of its hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// BLAKE3 hash: how it is fetched.
    pub hash: BlobHash,
    /// Region root: what the chain commits to.
    pub root: B256,
    /// Bytes.
    pub length: u64,
}

impl Content {
    /// Hashes `bytes` both ways.
    pub fn of(bytes: &[u8]) -> Self {
        Self { hash: blob_hash(bytes), root: commit::region_root(bytes), length: bytes.len() as u64 }
    }
}

/// A file that all tasks of a job find at the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedFile {
    /// Its path, relative to `/`.
    pub path: String,
    /// BLAKE3 hash of its content: how it is fetched.
    pub hash: BlobHash,
    /// Bytes.
    pub length: u64,
}

/// What a single task is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskInput {
    /// BLAKE3 hash of its standard input: how it is fetched.
    pub hash: BlobHash,
    /// Bytes of its standard input.
    pub length: u64,
    /// Region root of its whole blob: what the chain commits to.
    pub root: B256,
}

/// What all tasks of a job are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputManifest {
    /// Whether inputs and files are for those alone who hold a batch.
    pub private: bool,
    /// Where random numbers and clocks begin; each task's own seed follows from it, see [`InputManifest::task_seed`].
    pub seed: [u8; 32],
    /// Arguments of every task, without the program's name.
    pub args: Vec<String>,
    /// Environment of every task: name and value.
    pub env: Vec<(String, String)>,
    /// Read-only files of every task, in ascending order of paths.
    pub files: Vec<SharedFile>,
    /// What differs.
    pub tasks: Vec<TaskInput>,
}

/// What came of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskResult {
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel burned.
    pub fuel: u64,
    /// Its output.
    pub output: Content,
}

/// What came of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultManifest {
    /// The job's id.
    pub job: B256,
    /// The batch's number.
    pub batch: u32,
    /// Its tasks' results in their order.
    pub results: Vec<TaskResult>,
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another kind of file, or another version.
    #[error("these bytes are no {0} manifest of the version that is known here")]
    Magic(&'static str),
    /// It ends too early or goes on too long.
    #[error("the manifest is cut off or has bytes too many")]
    Length,
    /// A value that the encoding does not have.
    #[error("the manifest is malformed: {0}")]
    Value(&'static str),
    /// What no task can be given.
    #[error(transparent)]
    Input(#[from] conun_vm::Error),
}

/// Reads from the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (front, rest) = self.0.split_at_checked(length).ok_or(Error::Length)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        Ok(self.take(N)?.try_into().expect("`take` gives the length asked for"))
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of items of at least `size` bytes each: never more than can be there, so that nothing large is reserved.
    fn count(&mut self, size: usize) -> Result<usize, Error> {
        let count = self.u32()? as usize;
        if count.checked_mul(size).is_none_or(|bytes| bytes > self.0.len()) { Err(Error::Length) } else { Ok(count) }
    }

    fn content(&mut self) -> Result<Content, Error> {
        Ok(Content { hash: self.array()?, root: self.array::<32>()?.into(), length: self.u64()? })
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(length)?);
        text.map(ToOwned::to_owned).map_err(|_| Error::Value("a text is not UTF-8"))
    }

    fn end(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Length) }
    }
}

fn put_content(bytes: &mut Vec<u8>, content: &Content) {
    bytes.extend(content.hash);
    bytes.extend(content.root);
    bytes.extend(content.length.to_le_bytes());
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend(u32::try_from(count).expect("tasks, results and arguments are counted in 32 bits").to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_count(bytes, text.len());
    bytes.extend(text.as_bytes());
}

impl InputManifest {
    /// Adds a task with that standard input; `files` are the contents of [`InputManifest::files`].
    ///
    /// # Errors
    /// If no task can be given this.
    pub fn push(&mut self, stdin: &[u8], files: &[Bytes]) -> Result<(), Error> {
        let index = u32::try_from(self.tasks.len()).map_err(|_| Error::Value("more than 2^32 tasks"))?;
        let root = commit::region_root(&self.input(index, stdin, files)?);
        self.tasks.push(TaskInput { hash: blob_hash(stdin), length: stdin.len() as u64, root });
        Ok(())
    }

    /// The seed of task `index`: each draws other random numbers, however alike their inputs are. The keyed BLAKE3 hash of the
    /// index (4 bytes) under the job's seed.
    pub fn task_seed(&self, index: u32) -> [u8; 32] {
        *blake3::keyed_hash(&self.seed, &index.to_le_bytes()).as_bytes()
    }

    /// The blob that task `index` reads, with that standard input; `files` are the contents of [`InputManifest::files`].
    ///
    /// # Errors
    /// If no task can be given this.
    pub fn input(&self, index: u32, stdin: &[u8], files: &[Bytes]) -> Result<Vec<u8>, Error> {
        if files.len() != self.files.len() {
            return Err(Error::Value("a file is missing"));
        }
        let input = Input {
            args: self.args.iter().map(String::as_str).collect(),
            env: self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            seed: self.task_seed(index),
            stdin,
            files: self.files.iter().zip(files).map(|(file, content)| (file.path.as_str(), content.as_ref())).collect(),
            ..Input::default()
        };
        Ok(input.encode()?)
    }

    /// Bytes of the blob of a task whose standard input has `stdin` bytes.
    ///
    /// # Errors
    /// If no task can be given this.
    pub fn input_length(&self, stdin: u64) -> Result<u64, Error> {
        let empty = self.input(0, b"", &vec![Bytes::new(); self.files.len()])?;
        let files: u64 = self.files.iter().fold(0, |sum, file| sum.saturating_add(file.length));
        Ok(files.saturating_add(empty.len() as u64).saturating_add(stdin))
    }

    /// What a manifest may hold, beyond its form.
    fn check(&self) -> Result<(), Error> {
        if !self.files.is_sorted_by(|a, b| a.path < b.path) {
            return Err(Error::Value("its files are not in ascending order"));
        }
        self.input_length(0).map(drop)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = INPUT_MAGIC.to_vec();
        bytes.push(self.private.into());
        bytes.extend(self.seed);
        put_count(&mut bytes, self.args.len());
        self.args.iter().for_each(|arg| put_text(&mut bytes, arg));
        put_count(&mut bytes, self.env.len());
        self.env.iter().flat_map(|(name, value)| [name, value]).for_each(|text| put_text(&mut bytes, text));
        put_count(&mut bytes, self.files.len());
        for file in &self.files {
            put_text(&mut bytes, &file.path);
            bytes.extend(file.hash);
            bytes.extend(file.length.to_le_bytes());
        }
        put_count(&mut bytes, self.tasks.len());
        for task in &self.tasks {
            bytes.extend(task.hash);
            bytes.extend(task.length.to_le_bytes());
            bytes.extend(task.root);
        }
        bytes
    }

    /// Reads them back.
    ///
    /// # Errors
    /// If they are anything but one canonical manifest.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader(bytes);
        if reader.array().ok() != Some(INPUT_MAGIC) {
            return Err(Error::Magic("input"));
        }
        let private = match reader.array()? {
            [0] => false,
            [1] => true,
            _ => return Err(Error::Value("it is neither private nor public")),
        };
        let seed = reader.array()?;
        let args = (0..reader.count(4)?).map(|_| reader.text()).collect::<Result<_, _>>()?;
        let env = (0..reader.count(8)?).map(|_| Ok((reader.text()?, reader.text()?))).collect::<Result<_, Error>>()?;
        let files = (0..reader.count(44)?)
            .map(|_| Ok(SharedFile { path: reader.text()?, hash: reader.array()?, length: reader.u64()? }))
            .collect::<Result<_, Error>>()?;
        let tasks = (0..reader.count(72)?)
            .map(|_| Ok(TaskInput { hash: reader.array()?, length: reader.u64()?, root: reader.array::<32>()?.into() }))
            .collect::<Result<_, Error>>()?;
        reader.end()?;
        let manifest = Self { private, seed, args, env, files, tasks };
        manifest.check()?;
        Ok(manifest)
    }

    /// The keccak root that the job commits to.
    ///
    /// # Errors
    /// If no task can be given this.
    pub fn root(&self) -> Result<B256, Error> {
        let own = self.input_length(0)?;
        let tasks: Vec<_> = self.tasks.iter().map(|task| (task.root, own.saturating_add(task.length))).collect();
        Ok(commit::input_root(&tasks))
    }
}

impl ResultManifest {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = RESULT_MAGIC.to_vec();
        bytes.extend(self.job);
        bytes.extend(self.batch.to_le_bytes());
        put_count(&mut bytes, self.results.len());
        for result in &self.results {
            let (ok, exit_code) = match result.outcome {
                Outcome::Ok { exit_code } => (1, exit_code),
                Outcome::Failed => (0, 0),
            };
            bytes.push(ok);
            bytes.extend(exit_code.to_le_bytes());
            bytes.extend(result.fuel.to_le_bytes());
            put_content(&mut bytes, &result.output);
        }
        bytes
    }

    /// Reads them back.
    ///
    /// # Errors
    /// If they are anything but one canonical manifest.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader(bytes);
        if reader.array().ok() != Some(RESULT_MAGIC) {
            return Err(Error::Magic("result"));
        }
        let (job, batch) = (reader.array::<32>()?.into(), reader.u32()?);
        let results = (0..reader.count(85)?).map(|_| {
            let outcome = match (reader.array()?, reader.u32()?) {
                ([1], exit_code) => Outcome::Ok { exit_code },
                ([0], 0) => Outcome::Failed,
                _ => return Err(Error::Value("an outcome is neither ok nor failed")),
            };
            let result = TaskResult { outcome, fuel: reader.u64()?, output: reader.content()? };
            match result.outcome {
                Outcome::Failed if result.output.length != 0 => Err(Error::Value("a failed task has an output")),
                _ => Ok(result),
            }
        });
        let results = results.collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { job, batch, results })
    }

    /// The leaves of the result tree; `first` is the index of the batch's first task.
    pub fn leaves(&self, first: u32) -> Vec<ResultLeaf> {
        let leaf = |(position, result): (u32, &TaskResult)| {
            let exit_code = match result.outcome {
                Outcome::Ok { exit_code } => Some(exit_code),
                Outcome::Failed => None,
            };
            ResultLeaf {
                index: first.saturating_add(position),
                ok: exit_code.is_some(),
                exit_code: exit_code.unwrap_or(0),
                output_root: result.output.root,
                output_length: result.output.length,
                fuel: result.fuel,
            }
        };
        (0..).zip(&self.results).map(leaf).collect()
    }

    /// The result tree over them.
    ///
    /// # Errors
    /// If there is no result, or the fuel overflows.
    pub fn tree(&self, first: u32) -> Result<ResultTree, TreeError> {
        ResultTree::new(&self.leaves(first))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn content() -> impl Strategy<Value = Content> {
        (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u64>()).prop_map(|(hash, root, length)| Content {
            hash,
            root: root.into(),
            length,
        })
    }

    fn result() -> impl Strategy<Value = TaskResult> {
        (any::<Option<u32>>(), any::<u64>(), content()).prop_map(|(exit_code, fuel, mut output)| {
            let outcome = exit_code.map_or(Outcome::Failed, |exit_code| Outcome::Ok { exit_code });
            if outcome == Outcome::Failed {
                output.length = 0;
            }
            TaskResult { outcome, fuel, output }
        })
    }

    fn inputs() -> impl Strategy<Value = InputManifest> {
        let task = (any::<[u8; 32]>(), any::<u64>(), any::<[u8; 32]>());
        let task = task.prop_map(|(hash, length, root)| TaskInput { hash, length, root: root.into() });
        let env = vec(("[A-Z]{1,5}", "[^\0]{0,9}"), 0..4);
        let files = proptest::collection::btree_map("[a-z]{1,5}", any::<([u8; 32], u64)>(), 0..4);
        let files = files.prop_map(|files| {
            // `out` is where outputs go.
            let files = files.into_iter().filter(|(path, _)| path != "out");
            files.map(|(path, (hash, length))| SharedFile { path, hash, length }).collect()
        });
        (any::<(bool, [u8; 32])>(), vec("[^\0]{0,9}", 0..4), env, files, vec(task, 0..9)).prop_map(
            |((private, seed), args, env, files, tasks)| InputManifest { private, seed, args, env, files, tasks },
        )
    }

    proptest! {
        #[test]
        fn manifests_come_back_as_they_were(
            inputs in inputs(), results in vec(result(), 0..9), job: [u8; 32], batch: u32,
        ) {
            prop_assert_eq!(InputManifest::decode(&inputs.encode()), Ok(inputs.clone()));
            let outputs = ResultManifest { job: job.into(), batch, results };
            prop_assert_eq!(ResultManifest::decode(&outputs.encode()), Ok(outputs.clone()));
            for whole in [inputs.encode(), outputs.encode()] {
                for end in 0..whole.len() {
                    prop_assert!(InputManifest::decode(&whole[..end]).is_err());
                    prop_assert!(ResultManifest::decode(&whole[..end]).is_err());
                }
                let longer = [&whole[..], &[0]].concat();
                prop_assert!(InputManifest::decode(&longer).is_err() && ResultManifest::decode(&longer).is_err());
            }
        }

        #[test]
        fn what_decodes_is_canonical_and_nothing_panics(tail in vec(any::<u8>(), 0..300), result: bool) {
            let magic = if result { RESULT_MAGIC } else { INPUT_MAGIC };
            let bytes = [&magic[..], &tail].concat();
            if let Ok(manifest) = InputManifest::decode(&bytes) {
                prop_assert_eq!(manifest.encode(), bytes.clone());
            }
            if let Ok(manifest) = ResultManifest::decode(&bytes) {
                prop_assert_eq!(manifest.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_count_that_cannot_be_there_reserves_nothing() {
        let bytes = [&INPUT_MAGIC[..], &[0; 33], &u32::MAX.to_le_bytes()].concat();
        assert_eq!(InputManifest::decode(&bytes), Err(Error::Length));
    }

    #[test]
    fn a_manifest_that_no_task_can_be_given_is_refused() {
        let file = |path: &str| SharedFile { path: path.to_owned(), hash: [0; 32], length: 1 };
        let manifests = [
            InputManifest { args: vec!["a\0".to_owned()], ..InputManifest::default() },
            InputManifest { env: vec![("A=B".to_owned(), String::new())], ..InputManifest::default() },
            InputManifest { files: vec![file("b"), file("a")], ..InputManifest::default() },
            InputManifest { files: vec![file("a"), file("a")], ..InputManifest::default() },
            InputManifest { files: vec![file("../a")], ..InputManifest::default() },
            InputManifest {
                files: vec![SharedFile { length: u64::MAX, ..file("a") }, file("/b")],
                ..InputManifest::default()
            },
        ];
        for manifest in manifests {
            assert!(InputManifest::decode(&manifest.encode()).is_err(), "{manifest:?}");
        }
    }

    #[test]
    fn each_task_has_a_blob_and_a_seed_of_its_own() {
        let files = [Bytes::from_static(b"1,2,3")];
        let mut manifest = InputManifest {
            args: vec!["-v".to_owned()],
            files: vec![SharedFile { path: "data/a.csv".to_owned(), hash: blob_hash(&files[0]), length: 5 }],
            ..InputManifest::default()
        };
        manifest.push(b"same", &files).unwrap();
        manifest.push(b"same", &files).unwrap();
        assert_ne!(manifest.tasks[0].root, manifest.tasks[1].root);
        let blob = manifest.input(1, b"same", &files).unwrap();
        assert_eq!(commit::region_root(&blob), manifest.tasks[1].root);
        assert_eq!(manifest.input_length(4).unwrap(), blob.len() as u64);
        let input = Input::decode(&blob).unwrap();
        assert_eq!((input.stdin, input.files["data/a.csv"]), (&b"same"[..], &b"1,2,3"[..]));
        assert_eq!(input.seed, manifest.task_seed(1));
        assert!(manifest.input(1, b"same", &[]).is_err());
    }
}
