//! Executes one task by hand: `cargo run --release -p conun-vm --example run -- program.wasm [ARG..] < input > output`.
//!
//! The output is what the program leaves: of a WASI program standard output and more (SPEC.md, section 3). Outcome, fuel and times
//! go to standard error.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    time::Instant,
};

use conun_vm::{Input, Limits, MAX_FUEL, Program, Task};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args().skip(1);
    let path = args.next().ok_or("name a program: run program.wasm [ARG..] < input > output")?;
    let args: Vec<_> = args.collect();
    let mut stdin = Vec::new();
    io::stdin().read_to_end(&mut stdin)?;
    let input = Input { args: args.iter().map(String::as_str).collect(), stdin: &stdin, ..Input::default() };

    let begun = Instant::now();
    let program = Program::compile(&fs::read(&path)?, Limits::default())?;
    let compiled = begun.elapsed();
    let begun = Instant::now();
    let done = program.execute(&Task { input: input.encode()?.into(), fuel_limit: MAX_FUEL })?;
    let executed = begun.elapsed();

    io::stdout().write_all(&done.output)?;
    io::stderr().write_all(&done.stderr)?;
    eprintln!("{:?}, fuel {}, compiled in {compiled:.3?}, executed in {executed:.3?}", done.outcome, done.fuel);
    Ok(())
}
