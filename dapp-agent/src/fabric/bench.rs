//! How fast this computer is: fuel a second of one processor while all that may work do.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::sandbox::{self, Program, Sandbox, Task, Worker};

/// A path tracer: loops, f64, some memory; between the programs that burn fuel fastest and slowest.
const PROGRAM: &[u8] = include_bytes!("../../../examples/pathtracer/pathtracer.wasm");

/// A tile: width and height of the picture, place and end of the tile, samples a pixel.
const INPUT: &[u8] = b"192 128 64 32 96 64 160\n";

/// Most time to compile the program, or to start a worker with it.
const PATIENCE: Duration = Duration::from_secs(60);

const FUEL_LIMIT: u64 = 1_000_000_000_000;

/// A measured rate, as `bench.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Fuel a second of one worker, mean of all.
    pub fuel_per_second: u64,
    /// Workers at once, a processor each.
    pub workers: u32,
    /// Tasks executed.
    pub tasks: u64,
    /// Milliseconds measured.
    pub millis: u64,
    /// When, UNIX seconds.
    pub at: u64,
}

/// Measures with `workers` worker processes at once for about `time`.
///
/// # Errors
/// If a worker cannot be started or a task not be executed.
pub async fn measure(sandbox: &Sandbox, workers: u32, time: Duration) -> Result<Rate, sandbox::Error> {
    let task = task()?;
    let program = Program {
        wasm: PROGRAM.into(),
        memory_bytes: 256 << 20,
        output_bytes: 1 << 20,
        input_bytes: task.input.len() as u64,
        root: None,
    };
    let compiled = sandbox.compile(&program, PATIENCE).await?;
    let mut started = Vec::new();
    for _ in 0..workers.max(1) {
        started.push(sandbox.start(&compiled, PATIENCE).await?);
    }
    let start = Instant::now();
    let working = started.into_iter().map(|worker| work(worker, task.clone(), start + time));
    let done = futures_util::future::try_join_all(working).await?;
    let fuel_per_second = done.iter().map(|done| done.rate).sum::<f64>() / done.len() as f64;
    Ok(Rate {
        fuel_per_second: fuel_per_second as u64,
        workers: workers.max(1),
        tasks: done.iter().map(|done| done.tasks).sum(),
        millis: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    })
}

fn task() -> Result<Task, sandbox::Error> {
    let input = conun_vm::Input { stdin: INPUT, ..conun_vm::Input::default() };
    let input = input.encode().map_err(|error| sandbox::Error::Host(error.to_string()))?;
    Ok(Task { input: input.into(), fuel_limit: FUEL_LIMIT })
}

struct Done {
    tasks: u64,
    /// Fuel a second.
    rate: f64,
}

async fn work(mut worker: Worker, task: Task, until: Instant) -> Result<Done, sandbox::Error> {
    // The first one pages everything in.
    worker.execute(task.clone(), PATIENCE).await?;
    let start = Instant::now();
    let (mut tasks, mut fuel) = (0, 0);
    while tasks == 0 || Instant::now() < until {
        fuel += worker.execute(task.clone(), PATIENCE).await?.fuel;
        tasks += 1;
    }
    Ok(Done { tasks, rate: fuel as f64 / start.elapsed().as_secs_f64() })
}

fn file(folder: &Path) -> PathBuf {
    folder.join("bench.json")
}

impl Rate {
    /// What was measured last for a data folder.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(file(folder)).ok()?).ok()
    }

    /// Keeps it in a data folder, which is made if need be.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(file(folder), serde_json::to_vec_pretty(self)?)
    }
}
