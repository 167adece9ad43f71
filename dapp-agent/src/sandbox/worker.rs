//! The worker's side of the pipe.

use std::io::{self, BufReader, BufWriter, Read, Write};

use bytes::Bytes;
use conun_vm::{Limits, native};

use super::{
    Error, confine,
    frame::{self, Reply, Request},
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
    serve(&mut BufReader::with_capacity(BUFFER, input), &mut BufWriter::with_capacity(BUFFER, output)).map_err(broken)
}

/// Standard input and output without the buffers and locks of the standard library.
#[cfg(unix)]
fn pipes() -> io::Result<(impl Read, impl Write)> {
    use std::{fs::File, os::fd::AsFd};

    let own = |pipe: std::os::fd::BorrowedFd<'_>| pipe.try_clone_to_owned().map(File::from);
    Ok((own(io::stdin().as_fd())?, own(io::stdout().as_fd())?))
}

#[cfg(not(unix))]
fn pipes() -> io::Result<(impl Read, impl Write)> {
    Ok((io::stdin(), io::stdout()))
}

fn serve(input: &mut BufReader<impl Read>, output: &mut BufWriter<impl Write>) -> io::Result<()> {
    let mut state = State::New;
    while let Some(body) = frame::read(input)? {
        let (next, reply) = state.answer(Request::decode(body)?)?;
        frame::write(output, reply.encode())?;
        state = next;
        // As long as there is another request at hand its answer can go with this one.
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    Ok(())
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
    fn answer(self, request: Request) -> io::Result<(Self, Reply)> {
        let answered = match (self, request) {
            (Self::New, Request::Begin(budget)) => {
                let confinement = confine::confine(&budget)?;
                Ok((Self::Confined, Reply::Confined(confinement)))
            }
            (Self::Confined, Request::Prepare { memory_bytes, wasm }) => prepare(&wasm, memory_bytes),
            (Self::Prepared(prepared), Request::Compile) => compile(prepared),
            (Self::Confined, Request::Load { output_bytes, artifact }) => load(artifact, output_bytes),
            (Self::Loaded(program), Request::Execute { fuel_limit, input }) => {
                match program.execute(&conun_vm::Task { input, fuel_limit }) {
                    Ok(execution) => Ok((Self::Loaded(program), Reply::Executed(execution))),
                    // The next task may be a better one.
                    Err(error) => Ok((Self::Loaded(program), failure(&error))),
                }
            }
            (state, _) => Ok((state, Reply::Host("the worker was asked out of turn".to_owned()))),
        };
        Ok(answered.unwrap_or_else(|error: conun_vm::Error| (Self::Confined, failure(&error))))
    }
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
