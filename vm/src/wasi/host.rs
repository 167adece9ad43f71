//! The little world that one execution lives in.

use wasmer::{Global, Memory};

use crate::{
    limits::MAX_STDERR_BYTES,
    task::{PROGRAM_NAME, Task},
};

/// Wall clock at its first reading, in nanoseconds since 1970: midnight before 1 January 2000, UTC.
pub(super) const CLOCK_START_NANOS: u64 = 946_684_800_000_000_000;

/// How far all clocks advance each time one is read, in nanoseconds. A program that waits for time to pass gets on.
pub(super) const CLOCK_STEP_NANOS: u64 = 1_000_000;

/// Where the stream of random bytes begins, in every execution.
const RANDOM_SEED: u64 = 0x636f_6e75_6e2d_3031; // "conun-01"

/// Why a call into the host did not come back.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// The program asked to end.
    #[error("exit with code {0}")]
    Exit(u32),
    /// The program wrote more than the job allows.
    #[error("the output limit is reached")]
    OutputFull,
    /// The fuel left did not cover the call.
    #[error("the fuel is burned")]
    OutOfFuel,
    /// The engine did something that it never should.
    #[error("{0}")]
    Host(String),
}

/// The state behind an execution's WASI calls.
#[derive(Debug)]
pub(crate) struct Host {
    /// `argv`, each with its NUL.
    pub(super) args: Vec<Vec<u8>>,
    stdin: Vec<u8>,
    stdin_read: usize,
    pub(crate) stdout: Vec<u8>,
    output_limit: usize,
    pub(crate) stderr: Vec<u8>,
    closed: [bool; 3],
    clock_reads: u64,
    random: u64,
    attached: Option<(Memory, Global)>,
}

impl Host {
    pub(crate) fn new(task: &Task<'_>, output_limit: u64) -> Self {
        let args = std::iter::once(PROGRAM_NAME).chain(task.args.iter().map(String::as_str));
        Self {
            args: args.map(|arg| [arg.as_bytes(), b"\0"].concat()).collect(),
            stdin: task.stdin.to_vec(),
            stdin_read: 0,
            stdout: Vec::new(),
            output_limit: usize::try_from(output_limit).unwrap_or(usize::MAX),
            stderr: Vec::new(),
            closed: [false; 3],
            clock_reads: 0,
            random: RANDOM_SEED,
            attached: None,
        }
    }

    /// Gives the calls the instance's memory and fuel.
    pub(crate) fn attach(&mut self, memory: Memory, fuel: Global) {
        self.attached = Some((memory, fuel));
    }

    pub(super) fn attached(&self) -> Option<(Memory, Global)> {
        self.attached.clone()
    }

    pub(super) fn is_open(&self, fd: u32) -> bool {
        self.closed.get(fd as usize).is_some_and(|closed| !closed)
    }

    pub(super) fn close(&mut self, fd: u32) {
        if let Some(closed) = self.closed.get_mut(fd as usize) {
            *closed = true;
        }
    }

    /// Up to `len` bytes of standard input; none at its end.
    pub(super) fn read(&mut self, len: usize) -> &[u8] {
        let rest = &self.stdin[self.stdin_read..];
        let part = &rest[..len.min(rest.len())];
        self.stdin_read += part.len();
        part
    }

    /// Bytes of standard input not read yet.
    pub(super) fn stdin_left(&self) -> usize {
        self.stdin.len() - self.stdin_read
    }

    /// Bytes that standard output still takes, or that standard error still keeps.
    pub(super) fn room(&self, fd: u32) -> usize {
        match fd {
            1 => self.output_limit - self.stdout.len(),
            _ => MAX_STDERR_BYTES - self.stderr.len(),
        }
    }

    pub(super) fn stream(&mut self, fd: u32) -> &mut Vec<u8> {
        if fd == 1 { &mut self.stdout } else { &mut self.stderr }
    }

    /// Nanoseconds that have passed by the clock, which then advances.
    pub(super) fn elapsed_nanos(&mut self) -> u64 {
        let elapsed = self.clock_reads * CLOCK_STEP_NANOS;
        self.clock_reads += 1;
        elapsed
    }

    /// The next eight random bytes: splitmix64.
    pub(super) fn random(&mut self) -> [u8; 8] {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }
}
