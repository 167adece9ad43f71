//! The worker's side of the pipe.

use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use conun_vm::{Execution, Limits, Outcome, Source, native};

use super::{
    Error, confine,
    frame::{self, Arrived, PIECE, Reply, Request},
    spill::Spill,
};

/// Bytes read and written at once: many small tasks go through one call of the system.
const BUFFER: usize = 64 << 10;

/// What `conun worker` does: compiles one program, or executes tasks with one, as standard input asks, until it ends.
///
/// # Errors
/// If the pipe breaks, or the process cannot give up its rights.
pub fn worker_main() -> Result<(), Error> {
    let broken = |error: io::Error| Error::Host(error.to_string());
    // One thread: nothing here waits for anything but the pipe.
    let (input, output) = pipes().map_err(broken)?;
    let spill = Spill::new().map_err(broken)?;
    serve(&mut BufReader::with_capacity(BUFFER, input), &Pipe::new(output), &spill).map_err(broken)
}

/// Standard input and output without the buffers and locks of the standard library.
#[cfg(unix)]
fn pipes() -> io::Result<(impl Read, impl Write + Send + 'static)> {
    use std::{fs::File, os::fd::AsFd};

    let own = |pipe: std::os::fd::BorrowedFd<'_>| pipe.try_clone_to_owned().map(File::from);
    Ok((own(io::stdin().as_fd())?, own(io::stdout().as_fd())?))
}

#[cfg(not(unix))]
fn pipes() -> io::Result<(impl Read, impl Write + Send + 'static)> {
    Ok((io::stdin(), io::stdout()))
}

fn serve<W: Write + Send + 'static>(
    input: &mut BufReader<impl Read>,
    output: &Pipe<W>,
    spill: &Spill,
) -> io::Result<()> {
    let mut state = State::New;
    while let Some(arrived) = frame::read(input, spill)? {
        let (next, reply) = match arrived {
            Arrived::Request(request) => state.answer(request, output)?,
            Arrived::Long { fuel_limit, input } => state.execute(input, fuel_limit, output),
        };
        frame::write(&mut *output.lock(), reply.encode())?;
        state = next;
        // As long as there is another request at hand its answer can go with this one.
        if input.buffer().is_empty() {
            output.lock().flush()?;
        }
    }
    Ok(())
}

/// The way to the agent. The engine has it, too, while a program runs.
struct Pipe<W: Write>(Arc<Mutex<BufWriter<W>>>);

impl<W: Write> Pipe<W> {
    fn new(pipe: W) -> Self {
        Self(Arc::new(Mutex::new(BufWriter::with_capacity(BUFFER, pipe))))
    }

    fn lock(&self) -> MutexGuard<'_, BufWriter<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The output of a task on its way. Here is never more of it than a piece.
struct Pieces<W: Write> {
    pipe: Pipe<W>,
    held: Vec<u8>,
}

impl<W: Write> Write for Pieces<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.len() + bytes.len() <= PIECE {
            self.held.try_reserve(bytes.len())?;
            self.held.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        if !self.held.is_empty() {
            frame::write(&mut *self.pipe.lock(), frame::piece(&self.held))?;
            self.held.clear();
            return self.write(bytes);
        }
        let piece = &bytes[..PIECE];
        frame::write(&mut *self.pipe.lock(), frame::piece(piece))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How far a worker has come.
enum State {
    New,
    Confined,
    Prepared(Bytes),
    Loaded(native::Program),
}

impl State {
    /// # Errors
    /// If nothing must be done in this process.
    fn answer<W: Write + Send + 'static>(self, request: Request, pipe: &Pipe<W>) -> io::Result<(Self, Reply)> {
        let answered = match (self, request) {
            (Self::New, Request::Begin(budget)) => {
                let confinement = confine::confine(&budget)?;
                Ok((Self::Confined, Reply::Confined(confinement)))
            }
            (Self::Confined, Request::Prepare { memory_bytes, wasm }) => prepare(&wasm, memory_bytes),
            (Self::Prepared(prepared), Request::Compile) => compile(prepared),
            (Self::Confined, Request::Load { output_bytes, artifact }) => load(artifact, output_bytes),
            (state, Request::Execute { fuel_limit, input }) => return Ok(state.execute(input, fuel_limit, pipe)),
            (state, _) => Ok((state, out_of_turn())),
        };
        Ok(answered.unwrap_or_else(|error: conun_vm::Error| (Self::Confined, failure(&error))))
    }

    fn execute<W: Write + Send + 'static>(self, input: impl Source, fuel_limit: u64, pipe: &Pipe<W>) -> (Self, Reply) {
        let Self::Loaded(program) = &self else { return (self, out_of_turn()) };
        let output = Pieces { pipe: Pipe(pipe.0.clone()), held: Vec::new() };
        let reply = match program.execute_into(input, output, fuel_limit) {
            Ok(Execution { outcome, output, fuel, stderr }) => {
                let output = if outcome == Outcome::Failed { Vec::new() } else { output.held };
                Reply::Executed(Execution { outcome, output, fuel, stderr })
            }
            // The next task may be a better one.
            Err(error) => failure(&error),
        };
        (self, reply)
    }
}

fn out_of_turn() -> Reply {
    Reply::Host("the worker was asked out of turn".to_owned())
}

fn failure(error: &conun_vm::Error) -> Reply {
    if error.is_refusal() { Reply::Refused(error.to_string()) } else { Reply::Host(error.to_string()) }
}

fn prepare(wasm: &[u8], memory_bytes: u64) -> Result<(State, Reply), conun_vm::Error> {
    let prepared = conun_vm::prepare(wasm, &Limits { memory_bytes, ..Limits::default() })?;
    let root = conun_vm::roots::program_root(&prepared)?;
    let prepared = Bytes::from(prepared.into_bytes());
    let hash = *blake3::hash(&prepared).as_bytes();
    Ok((State::Prepared(prepared), Reply::Prepared { hash, root }))
}

fn compile(prepared: Bytes) -> Result<(State, Reply), conun_vm::Error> {
    let program = native::Program::from_prepared(&prepared, Limits::default())?;
    let artifact = program.artifact()?;
    Ok((State::Prepared(prepared), Reply::Compiled(artifact)))
}

fn load(artifact: Bytes, output_bytes: u64) -> Result<(State, Reply), conun_vm::Error> {
    let limits = Limits { output_bytes, ..Limits::default() };
    // SAFETY: it comes from the agent, which has it from a worker that compiled it just now or from its own authenticated cache.
    // Should that compiler have been deceived by the program, then this process, which has nothing else, is what it gets.
    #[expect(unsafe_code, reason = "native code from the compiling worker, executed in a process that has no rights")]
    let program = unsafe { native::Program::load(artifact, limits)? };
    confine::loaded();
    Ok((State::Loaded(program), Reply::Loaded))
}
