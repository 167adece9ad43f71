//! From a job file to what is posted; everything is checked here, nothing is sent.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use alloy::primitives::{Address, U256};
use bytes::Bytes;
use conun_bindings::{
    Rules,
    abi::{
        JobRegistry::{Job, Spec},
        ReplicaRegistry::Assurance,
    },
    job, replicas,
};
use conun_vm::{Limits, native::Program};
use serde::{Deserialize, Serialize};

use super::{AssuranceFile, Error, io_error, promise};
use crate::{
    chain::Index,
    manifest::{InputManifest, MAX_FILES_BYTES, MAX_STDIN_BYTES, SharedFile, blob_hash},
    provider::OUTPUT_BYTES,
};

/// A job as its requester writes it (`job.toml`). Paths are relative to the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct JobFile {
    /// The WASI program.
    pub program: PathBuf,
    /// Arguments of every task, without the program's name.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment of every task.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where random numbers and clocks begin, any text; default none. Tasks of one job draw different random numbers, but each
    /// always the same; another seed gives others.
    #[serde(default)]
    pub seed: Option<String>,
    /// Read-only files that every task finds: path in the program's world (without a leading `/`) and file on this machine.
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
    /// Files: each is one task's standard input.
    #[serde(default)]
    pub inputs: Vec<PathBuf>,
    /// A file of which each line is one task's standard input.
    #[serde(default)]
    pub input_lines: Option<PathBuf>,
    /// Tasks in a batch; default 16, or all if there are fewer.
    #[serde(default)]
    pub batch_size: Option<u32>,
    /// Most fuel of one task; default 10^10.
    #[serde(default = "fuel_limit")]
    pub fuel_limit: u64,
    /// Most memory of one task, MiB; default 256.
    #[serde(default = "memory_mib")]
    pub memory_mib: u64,
    /// Tokens for 10^9 fuel, as text: `"0.5"`.
    pub price: String,
    /// Whether inputs and files are for those alone who hold a batch, each its own; default no: every provider may look at them.
    #[serde(default)]
    pub private: bool,
    /// Seconds a provider has for what it leases; default 600.
    #[serde(default = "lease_seconds")]
    pub lease_seconds: u32,
    /// Seconds after which silence pays a result; default 600.
    #[serde(default = "window_seconds")]
    pub window_seconds: u32,
    /// Application category; default 0, none.
    #[serde(default)]
    pub category: u32,
    /// How results are assured; default not at all.
    #[serde(default)]
    pub assurance: Option<AssuranceFile>,
}

fn fuel_limit() -> u64 {
    10_000_000_000
}
fn memory_mib() -> u64 {
    256
}
fn lease_seconds() -> u32 {
    600
}
fn window_seconds() -> u32 {
    600
}

impl JobFile {
    /// Reads a job file.
    ///
    /// # Errors
    /// If it is missing or malformed.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(io_error(path))?;
        let mut file = Self::parse(&text).map_err(|reason| Error::JobFile { path: path.to_owned(), reason })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let paths = file.inputs.iter_mut().chain(&mut file.input_lines).chain(file.files.values_mut());
        paths.chain([&mut file.program]).for_each(|path| *path = folder.join(&*path));
        Ok(file)
    }

    /// Reads a job file's text; paths stay as they are.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.to_string())
    }
}

/// A job that could be posted: its terms, and every byte that goes with it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The job's fields; nonce, requester, and the start of its ramp are set when it is posted.
    pub job: Job,
    /// How its results are assured, and the seconds in which its post has to be mined.
    pub assurance: Option<(Assurance, u32)>,
    /// Most results that may be wrong, as a share, where that says how they are assured: by then as if nobody had a record.
    pub max_error: Option<f64>,
    /// What is computed.
    pub spec: Spec,
    /// The program.
    pub wasm: Bytes,
    /// The input manifest, encoded.
    pub manifest: Bytes,
    /// Each task's standard input.
    pub inputs: Vec<Bytes>,
    /// Contents of the files that all tasks share, in ascending order of their paths.
    pub files: Vec<Bytes>,
}

impl Prepared {
    /// How results are assured by the records that there are; `lot` is even from 0 to 1.
    pub(super) fn assured(&self, index: &Index, lot: f64) -> Option<(Assurance, u32)> {
        let (base, post_seconds) = self.assurance.clone()?;
        let Some(error) = self.max_error else { return Some((base, post_seconds)) };
        let ways = promise::ways(error, &base, &index.rules);
        let registered = index.providers.values().filter(|provider| provider.registered);
        let checks: Vec<_> = registered.map(|provider| provider.checks).collect();
        Some((ways[promise::choose(&ways, &checks, lot)].clone(), post_seconds))
    }

    /// What posting it locks, token wei.
    pub fn deposit(&self, rules: &Rules) -> U256 {
        match &self.assurance {
            Some((assurance, _)) => replicas::deposit(&self.job, assurance, rules),
            None => job::deposit(&self.job),
        }
    }

    /// The blob that task `index` reads.
    ///
    /// # Errors
    /// If there is no such task.
    pub fn input(&self, index: u32) -> Result<Bytes, Error> {
        let term = |error: crate::manifest::Error| Error::Term(error.to_string());
        let manifest = InputManifest::decode(&self.manifest).map_err(term)?;
        let stdin = self.inputs.get(index as usize).ok_or_else(|| Error::Term(format!("there is no task {index}")))?;
        Ok(manifest.input(index, stdin, &self.files).map_err(term)?.into())
    }
}

/// Reads all files and checks all terms.
///
/// # Errors
/// What is wrong and what to do about it; nothing was sent.
pub fn prepare(file: &JobFile) -> Result<Prepared, Error> {
    let read = |path: &Path| std::fs::read(path).map(Bytes::from).map_err(io_error(path));
    let program = std::fs::metadata(&file.program).map_err(io_error(&file.program))?;
    let refused = |reason: String| Error::Program { path: file.program.clone(), reason };
    if program.len() > conun_vm::MAX_PROGRAM_BYTES as u64 {
        return Err(refused(format!(
            "it has {} bytes, at most {} are allowed",
            program.len(),
            conun_vm::MAX_PROGRAM_BYTES
        )));
    }
    let wasm = read(&file.program)?;
    conun_vm::check(&wasm).map_err(|error| refused(error.to_string()))?;
    let mut inputs = file.inputs.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &file.input_lines {
        let text = read(path)?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        inputs.extend(lines.map(|line| Bytes::from([line, b"\n"].concat())));
    }
    let price = crate::parse_tokens(&file.price).and_then(|price| u128::try_from(price).ok());
    let price = price
        .ok_or_else(|| Error::Term(format!("price \"{}\" is no number of tokens: write it as \"0.5\"", file.price)))?;
    let files = file.files.values().map(|path| read(path)).collect::<Result<_, _>>()?;
    let prepared = assemble(file, wasm, inputs, files, price)?;
    // As providers do: the program's memory has to fit the limit, too.
    let limits = Limits { memory_bytes: prepared.spec.memoryLimit, output_bytes: OUTPUT_BYTES };
    Program::compile(&prepared.wasm, limits).map_err(|error| refused(error.to_string()))?;
    Ok(prepared)
}

/// Puts a job together from bytes that are at hand: the program, each task's standard input, and the contents of the file's `files`
/// in ascending order of their paths; `price` is in token wei for 10^9 fuel. Paths and price of `file` are not read.
///
/// # Errors
/// As [`prepare`].
pub fn assemble(
    file: &JobFile,
    wasm: Bytes,
    inputs: Vec<Bytes>,
    files: Vec<Bytes>,
    price: u128,
) -> Result<Prepared, Error> {
    let term = |text: String| Err(Error::Term(text));
    let Ok(task_count) = u32::try_from(inputs.len()) else { return term("a job has at most 2^32 tasks".to_owned()) };
    if task_count == 0 {
        return term("the job has no tasks: name files in `inputs`, or a file of lines in `input-lines`".to_owned());
    }
    let batch_size = file.batch_size.unwrap_or(16.min(task_count));
    if batch_size == 0 || batch_size > task_count || batch_size > 65_536 {
        return term(format!(
            "batch-size {batch_size} must be from 1 to the number of tasks ({task_count}), at most 65536"
        ));
    }
    if price == 0 {
        return term("price 0 would have nobody work: give a price above 0".to_owned());
    }
    if file.fuel_limit == 0 || file.fuel_limit > conun_vm::MAX_FUEL {
        return term(format!("fuel-limit must be from 1 to {}", conun_vm::MAX_FUEL));
    }
    if file.fuel_limit.checked_mul(batch_size.into()).is_none() {
        return term("fuel-limit x batch-size must be below 2^64: lower one of them".to_owned());
    }
    if !(1..=4096).contains(&file.memory_mib) {
        return term("memory-mib must be from 1 to 4096".to_owned());
    }
    if file.lease_seconds == 0 || file.window_seconds == 0 {
        return term("lease-seconds and window-seconds must be at least 1".to_owned());
    }
    if let Some(at) = inputs.iter().position(|input| input.len() as u64 > MAX_STDIN_BYTES) {
        return term(format!(
            "input {at} has {} bytes, at most {MAX_STDIN_BYTES} are allowed: cut it into more tasks",
            inputs[at].len()
        ));
    }
    let total: u64 = files.iter().map(|content| content.len() as u64).sum();
    if total > MAX_FILES_BYTES {
        return term(format!("the files have {total} bytes, at most {MAX_FILES_BYTES} are allowed"));
    }
    let shared = |(path, content): (&String, &Bytes)| SharedFile {
        path: path.clone(),
        hash: blob_hash(content),
        length: content.len() as u64,
    };
    let mut manifest = InputManifest {
        private: file.private,
        seed: file.seed.as_ref().map_or([0; 32], |text| blob_hash(text.as_bytes())),
        args: file.args.clone(),
        env: file.env.clone().into_iter().collect(),
        files: file.files.keys().zip(&files).map(shared).collect(),
        tasks: Vec::with_capacity(inputs.len()),
    };
    for input in &inputs {
        manifest.push(input, &files).map_err(|error| Error::Term(error.to_string()))?;
    }
    let assurance = match &file.assurance {
        Some(terms) => Some((terms.assurance(file.lease_seconds).map_err(Error::Term)?, terms.post_seconds)),
        None => None,
    };
    let limits = Limits { memory_bytes: file.memory_mib << 20, output_bytes: OUTPUT_BYTES };
    let program_root = conun_vm::prepare(&wasm, &limits)
        .and_then(|prepared| conun_vm::roots::program_root(&prepared))
        .map_err(|error| Error::Program { path: file.program.clone(), reason: error.to_string() })?;
    let input_root = manifest.root().map_err(|error| Error::Term(error.to_string()))?;
    let encoded = manifest.encode();
    let spec = Spec {
        program: blob_hash(&wasm).into(),
        programRoot: program_root.into(),
        inputs: blob_hash(&encoded).into(),
        inputRoot: input_root,
        memoryLimit: file.memory_mib << 20,
        category: file.category,
    };
    let job = Job {
        requester: Address::ZERO,
        nonce: 0,
        spec: job::spec_hash(&spec),
        taskCount: task_count,
        batchSize: batch_size,
        fuelLimit: file.fuel_limit,
        startPrice: price,
        maxPrice: price,
        rampStart: 0,
        rampSeconds: 0,
        leaseSeconds: file.lease_seconds,
        windowSeconds: file.window_seconds,
    };
    let executions = assurance.as_ref().map_or(1, |(assurance, _)| assurance.limit);
    if job::deposit(&job) * U256::from(executions) >= U256::from(1) << 95 {
        return term(
            "the deposit would be 2^95 token wei or more: lower price, fuel-limit or the number of tasks".to_owned(),
        );
    }
    let max_error = file.assurance.as_ref().and_then(|terms| terms.max_error);
    Ok(Prepared { job, assurance, max_error, spec, wasm, manifest: encoded.into(), inputs, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = include_bytes!("../../../examples/hello/hello.wasm");

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("p.wasm"), HELLO).unwrap();
        std::fs::write(folder.path().join("names"), "Ada\n\nGrace\n").unwrap();
        folder
    }

    fn read(folder: &tempfile::TempDir, text: &str) -> Result<Prepared, String> {
        let path = folder.path().join("job.toml");
        std::fs::write(&path, text).unwrap();
        JobFile::read(&path).and_then(|file| prepare(&file)).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_and_files_become_tasks() {
        let folder = folder();
        std::fs::write(folder.path().join("whole"), "x y").unwrap();
        let text = "program = 'p.wasm'\nprice = '0.5'\ninputs = ['whole']\ninput-lines = 'names'";
        let prepared = read(&folder, text).unwrap();
        assert_eq!(prepared.inputs, [&b"x y"[..], b"Ada\n", b"Grace\n"].map(Bytes::from));
        assert_eq!((prepared.job.taskCount, prepared.job.batchSize), (3, 3));
        assert_eq!(prepared.job.maxPrice, 5 * 10u128.pow(17));
        let manifest = InputManifest::decode(&prepared.manifest).unwrap();
        assert_eq!(manifest.root().unwrap(), prepared.spec.inputRoot);
        assert_eq!(manifest.seed, [0; 32]);
    }

    #[test]
    fn environment_seed_and_files_reach_every_task() {
        let folder = folder();
        std::fs::write(folder.path().join("table"), "1,2").unwrap();
        let text = "program = 'p.wasm'\nprice = '1'\ninput-lines = 'names'\nseed = 'x'\nenv = { LANG = 'C', A = '' }\n\
                    files = { 'data/t.csv' = 'table' }";
        let prepared = read(&folder, text).unwrap();
        let blobs = [0, 1].map(|task| prepared.input(task).unwrap());
        let inputs = blobs.each_ref().map(|blob| conun_vm::Input::decode(blob).unwrap());
        for input in &inputs {
            assert_eq!(input.env, [("A", ""), ("LANG", "C")]);
            assert_eq!(input.files["data/t.csv"], b"1,2");
        }
        assert_ne!(inputs[0].seed, inputs[1].seed);
        let other = read(&folder, &text.replace("'x'", "'y'")).unwrap();
        assert_ne!(other.spec.inputRoot, prepared.spec.inputRoot);
        assert!(prepared.input(2).is_err());
    }

    #[test]
    fn what_is_wrong_is_said_before_anything_is_sent() {
        let folder = folder();
        std::fs::write(folder.path().join("text.wasm"), "(module)").unwrap();
        std::fs::write(folder.path().join("empty"), "").unwrap();
        for (text, words) in [
            ("program = 'p.wasm'\nprice = '1'", "has no tasks"),
            ("program = 'p.wasm'\nprice = '1'\ninput-lines = 'empty'", "has no tasks"),
            ("program = 'p.wasm'\nprice = '0'\ninput-lines = 'names'", "price 0"),
            ("program = 'p.wasm'\nprice = '-1'\ninput-lines = 'names'", "no number of tokens"),
            ("program = 'p.wasm'\nprice = 'x'\ninput-lines = 'names'", "no number of tokens"),
            ("program = 'p.wasm'\nprice = '1'\ninput-lines = 'nobody'", "nobody"),
            ("program = 'q.wasm'\nprice = '1'\ninput-lines = 'names'", "q.wasm"),
            ("program = 'text.wasm'\nprice = '1'\ninput-lines = 'names'", "cannot be executed"),
            ("program = 'p.wasm'\nprice = '1'\ninput-lines = 'names'\nbatch-size = 3", "batch-size 3"),
            ("program = 'p.wasm'\nprice = '1'\ninput-lines = 'names'\nbatch-size = 0", "batch-size 0"),
            ("program = 'p.wasm'\nprice = '1'\ninput-lines = 'names'\nfuel-limit = 0", "fuel-limit"),
            ("program = 'p.wasm'\nprice = '1'\ninput-lines = 'names'\nmemory-mib = 0", "memory-mib"),
            ("program = 'p.wasm'\nprice = '1'\ninput-lines = 'names'\nlease-seconds = 0", "lease-seconds"),
            ("program = 'p.wasm'\nprice = '1'\ninput-lines = 'names'\nprize = 1", "unknown field `prize`"),
            ("program = 'p.wasm'\nprice = '1'\ninput-lines = 'names'\nargs = [\"a\\u0000\"]", "argument 0"),
            ("program = 'p.wasm'\nprice = '1'\ninput-lines = 'names'\nenv = { 'A=B' = '' }", "environment variable"),
            ("program = 'p.wasm'\nprice = '1'\ninput-lines = 'names'\nfiles = { '../x' = 'names' }", "the input file"),
            ("program = 'p.wasm'\nprice = '1'\ninput-lines = 'names'\nfiles = { x = 'nobody' }", "nobody"),
            ("price = '1'", "program"),
        ] {
            let error = read(&folder, text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let large = std::fs::File::create(folder.path().join("large.wasm")).unwrap();
        large.set_len(conun_vm::MAX_PROGRAM_BYTES as u64 + 1).unwrap();
        assert!(
            read(&folder, "program = 'large.wasm'\nprice = '1'\ninput-lines = 'names'")
                .unwrap_err()
                .contains("at most")
        );
    }
}
