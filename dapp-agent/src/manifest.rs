//! What travels between requester and provider beside the bytes themselves: which inputs a job has, which outputs a batch.
//!
//! Both are canonical (one encoding for one content), versioned and capped. A job's `inputs` and a result's `outputs` on
//! chain are the BLAKE3 hashes of these encodings. Numbers are little-endian.
//!
//! | input manifest | bytes |
//! |---|---|
//! | magic `CONUNIN` and version 1 | 8 |
//! | number of arguments; each: length, UTF-8 text | 4; 4, n |
//! | number of tasks; each: BLAKE3 hash, region root, length of its standard input | 4; 32, 32, 8 |
//!
//! | result manifest | bytes |
//! |---|---|
//! | magic `CONUNRE` and version 1 | 8 |
//! | job id, batch | 32, 4 |
//! | number of results; each: ok (0 or 1), exit code, fuel, BLAKE3 hash, region root, length of its output | 4; 1, 4, 8, 32, 32, 8 |

use alloy::primitives::B256;
use conun_bindings::commit::{self, ResultLeaf, ResultTree, TreeError};
use conun_vm::Outcome;

const INPUT_MAGIC: [u8; 8] = *b"CONUNIN\x01";
const RESULT_MAGIC: [u8; 8] = *b"CONUNRE\x01";

/// Most bytes of an input manifest: about 900,000 tasks.
pub const MAX_INPUT_MANIFEST: u64 = 64 << 20;

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

/// What all tasks of a job are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputManifest {
    /// Arguments of every task, without the program's name.
    pub args: Vec<String>,
    /// Standard input of each task.
    pub tasks: Vec<Content>,
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
    #[error("these bytes are no {0} manifest of version 1")]
    Magic(&'static str),
    /// It ends too early or goes on too long.
    #[error("the manifest is cut off or has bytes too many")]
    Length,
    /// A value that the encoding does not have.
    #[error("the manifest is malformed: {0}")]
    Value(&'static str),
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

impl InputManifest {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = INPUT_MAGIC.to_vec();
        put_count(&mut bytes, self.args.len());
        for arg in &self.args {
            put_count(&mut bytes, arg.len());
            bytes.extend(arg.as_bytes());
        }
        put_count(&mut bytes, self.tasks.len());
        self.tasks.iter().for_each(|task| put_content(&mut bytes, task));
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
        let args = (0..reader.count(4)?).map(|_| {
            let length = reader.u32()? as usize;
            let text = reader.take(length)?;
            let text = std::str::from_utf8(text).map_err(|_| Error::Value("an argument is not UTF-8"))?;
            if text.contains('\0') { Err(Error::Value("an argument holds a NUL")) } else { Ok(text.to_owned()) }
        });
        let args = args.collect::<Result<_, _>>()?;
        let tasks = (0..reader.count(72)?).map(|_| reader.content()).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { args, tasks })
    }

    /// The keccak root that the job commits to.
    pub fn root(&self) -> B256 {
        let tasks: Vec<_> = self.tasks.iter().map(|task| (task.root, task.length)).collect();
        commit::input_root(&self.args, &tasks)
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

    /// The result tree; `first` is the index of the batch's first task.
    ///
    /// # Errors
    /// If there is no result, or the fuel overflows.
    pub fn tree(&self, first: u32) -> Result<ResultTree, TreeError> {
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
        ResultTree::new(&(0..).zip(&self.results).map(leaf).collect::<Vec<_>>())
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

    proptest! {
        #[test]
        fn manifests_come_back_as_they_were(
            args in vec("[^\0]{0,9}", 0..4), tasks in vec(content(), 0..9), results in vec(result(), 0..9), job: [u8; 32], batch: u32,
        ) {
            let inputs = InputManifest { args, tasks };
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
        let bytes = [&INPUT_MAGIC[..], &u32::MAX.to_le_bytes()].concat();
        assert_eq!(InputManifest::decode(&bytes), Err(Error::Length));
    }
}
