//! The worker's side of the pipe.

use std::io;

use conun_vm::{Limits, Program, Task};

use super::{
    Error, confine,
    frame::{self, Reply, Request},
};

/// What `conun worker` does: loads programs and executes tasks, as standard input asks, until it ends.
///
/// # Errors
/// If the pipe breaks or the process cannot give up its rights.
pub fn worker_main() -> Result<(), Error> {
    let broken = |error: io::Error| Error::Host(error.to_string());
    confine::confine().map_err(broken)?;
    // One thread: nothing here waits for anything but the pipe.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(broken)?;
    runtime.block_on(serve()).map_err(broken)
}

async fn serve() -> io::Result<()> {
    let (mut stdin, mut stdout) = (tokio::io::stdin(), tokio::io::stdout());
    let mut loaded = None;
    loop {
        let request = match frame::receive(&mut stdin).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            request => Request::decode(&request?)?,
        };
        let reply = answer(&mut loaded, request);
        frame::send(&mut stdout, &reply.encode()).await?;
    }
}

fn answer(loaded: &mut Option<(Program, Vec<String>)>, request: Request) -> Reply {
    let failure = |error: conun_vm::Error| {
        if error.is_refusal() { Reply::Refused(error.to_string()) } else { Reply::Host(error.to_string()) }
    };
    match request {
        Request::Load { memory_bytes, output_bytes, args, wasm } => {
            match Program::compile(&wasm, Limits { memory_bytes, output_bytes }) {
                Ok(program) => {
                    *loaded = Some((program, args));
                    Reply::Loaded
                }
                Err(error) => failure(error),
            }
        }
        Request::Execute { fuel_limit, stdin } => {
            let Some((program, args)) = loaded else { return Reply::Host("no program was loaded".to_owned()) };
            match program.execute(&Task { args, stdin: &stdin, fuel_limit }) {
                Ok(execution) => Reply::Executed(execution),
                Err(error) => failure(error),
            }
        }
    }
}
