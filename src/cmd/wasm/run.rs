//! `conun wasm run`: one task, here.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use conun_vm::{
    Execution, Input, Outcome, Output, Prepared, Program, Task,
    machine::{Code, Machine},
    prepare,
};
use eyre::{Context as _, eyre};
use serde::Serialize;

use super::{Caps, folder, profile, read};
use crate::{context::Context, output};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The program: a WASI preview1 command.
    program: PathBuf,
    /// One argument of the program; may be given several times (`--arg=-x` for one that begins with a dash).
    #[arg(long = "arg", value_name = "TEXT", allow_hyphen_values = true)]
    args: Vec<String>,
    /// One environment variable of the program.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_variable)]
    env: Vec<(String, String)>,
    /// Standard input: a file, or `-` for this command's own.  [default: empty]
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// A file or folder that the program finds, read-only, as /NAME; may be given several times.
    #[arg(long = "dir", value_name = "NAME=PATH", value_parser = folder::parse_mount)]
    dirs: Vec<folder::Mount>,
    /// Where random bytes and clocks begin: 64 hexadecimal digits.  [default: zeros]
    #[arg(long, value_name = "HEX")]
    seed: Option<alloy::primitives::B256>,
    /// Most fuel the program may burn.
    #[arg(long, value_name = "N", default_value_t = 1_000_000_000_000)]
    fuel: u64,
    #[command(flatten)]
    caps: Caps,
    /// Which engine executes it. Both come to the same result.
    #[arg(long, value_enum, default_value_t = Engine::Wasmer)]
    engine: Engine,
    /// Folder for what comes out: `stdout`, `stderr`, and under `out` the files that the program wrote to /out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Name the functions that burn the fuel (runs on the step machine, some 20 times slower).
    #[arg(long)]
    profile: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// Native code.
    Wasmer,
    /// The step machine that disputes are decided with.
    Step,
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

/// What comes out, as JSON has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    engine: Engine,
    /// `ok` or `failed`.
    outcome: &'static str,
    exit_code: Option<u32>,
    fuel: u64,
    output_root: alloy::primitives::B256,
    output_bytes: usize,
    stdout_bytes: usize,
    files: Vec<File>,
    stderr: String,
    prepare_seconds: f64,
    /// Compiling to native code, or flattening for the step machine.
    compile_seconds: f64,
    execute_seconds: f64,
    /// Steps of the step machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    profile: Vec<profile::Entry>,
}

#[derive(Serialize)]
struct File {
    path: String,
    bytes: usize,
}

/// What an engine made of the task.
struct Ran {
    execution: Execution,
    compile: Duration,
    execute: Duration,
    steps: Option<u64>,
    profile: Vec<profile::Entry>,
}

pub(crate) fn run(context: &Context, args: &RunArgs) -> eyre::Result<ExitCode> {
    let wasm = read(&args.program)?;
    let blob = input(args)?;
    let start = Instant::now();
    let prepared = prepare(&wasm, &args.caps.limits())?;
    let prepare_time = start.elapsed();
    let engine = if args.profile { Engine::Step } else { args.engine };
    let ran = match engine {
        Engine::Wasmer => on_wasmer(args, &prepared, blob)?,
        Engine::Step => on_machine(args, &wasm, &prepared, &blob)?,
    };
    let execution = &ran.execution;
    // The output of a program without WASI has no form, that of a failed one is empty.
    let is_wasi = conun_vm::uses_wasi(&wasm) && execution.outcome != Outcome::Failed;
    let decoded = if is_wasi {
        Output::decode(&execution.output)?
    } else {
        Output { stdout: &execution.output, files: Vec::new() }
    };
    if let Some(folder) = &args.out {
        keep(folder, &decoded, &execution.stderr)?;
    }
    let (outcome, exit_code) = match execution.outcome {
        Outcome::Ok { exit_code } => ("ok", Some(exit_code)),
        Outcome::Failed => ("failed", None),
    };
    let report = Report {
        engine,
        outcome,
        exit_code,
        fuel: execution.fuel,
        output_root: conun_vm::roots::region_root(&execution.output).into(),
        output_bytes: execution.output.len(),
        stdout_bytes: decoded.stdout.len(),
        files: decoded
            .files
            .iter()
            .map(|(path, content)| File { path: (*path).to_owned(), bytes: content.len() })
            .collect(),
        stderr: String::from_utf8_lossy(&execution.stderr).into_owned(),
        prepare_seconds: prepare_time.as_secs_f64(),
        compile_seconds: ran.compile.as_secs_f64(),
        execute_seconds: ran.execute.as_secs_f64(),
        steps: ran.steps,
        profile: ran.profile,
    };
    if context.json() {
        output::result(true, &report, |_| String::new())?;
    } else {
        if args.out.is_none() {
            output::bytes(decoded.stdout)?;
        }
        output::note(report.text(args.fuel));
    }
    Ok(if execution.outcome == (Outcome::Ok { exit_code: 0 }) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The task's input, as a provider would get it.
fn input(args: &RunArgs) -> eyre::Result<Vec<u8>> {
    let mut tree = folder::Tree::default();
    for mount in &args.dirs {
        tree.add(mount)?;
    }
    let stdin = match &args.stdin {
        None => Vec::new(),
        Some(path) if path == Path::new("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).wrap_err("cannot read standard input")?;
            bytes
        }
        Some(path) => read(path)?,
    };
    let input = Input {
        args: args.args.iter().map(String::as_str).collect(),
        env: args.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        seed: args.seed.unwrap_or_default().0,
        stdin: &stdin,
        files: tree.files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect(),
        empty_directories: tree.empty_directories.iter().map(String::as_str).collect(),
    };
    Ok(input.encode()?)
}

fn on_wasmer(args: &RunArgs, prepared: &Prepared, blob: Vec<u8>) -> eyre::Result<Ran> {
    let start = Instant::now();
    let program = Program::from_prepared(prepared.as_bytes(), args.caps.limits())?;
    let compile = start.elapsed();
    let start = Instant::now();
    let execution = program.execute(&Task { input: Bytes::from(blob), fuel_limit: args.fuel })?;
    Ok(Ran { execution, compile, execute: start.elapsed(), steps: None, profile: Vec::new() })
}

fn on_machine(args: &RunArgs, wasm: &[u8], prepared: &Prepared, blob: &[u8]) -> eyre::Result<Ran> {
    let start = Instant::now();
    let code = Arc::new(Code::flatten(prepared.as_bytes())?);
    let mut machine = Machine::new(code, blob.into(), args.fuel, args.caps.limits().output_bytes)?;
    let compile = start.elapsed();
    let start = Instant::now();
    let mut entries = Vec::new();
    if args.profile {
        entries = profile::of(&machine.profile()?, wasm, prepared);
    } else {
        machine.run()?;
    }
    let execute = start.elapsed();
    let run = machine.into_run().ok_or_else(|| eyre!("the step machine stopped before the program's end"))?;
    let execution = Execution { outcome: run.outcome, output: run.output, fuel: run.fuel, stderr: run.log };
    Ok(Ran { execution, compile, execute, steps: Some(run.steps), profile: entries })
}

/// Writes what came out into a folder.
fn keep(folder: &Path, decoded: &Output<'_>, stderr: &[u8]) -> eyre::Result<()> {
    let failed = || format!("cannot write into {}", folder.display());
    std::fs::create_dir_all(folder).wrap_err_with(failed)?;
    std::fs::write(folder.join("stdout"), decoded.stdout).wrap_err_with(failed)?;
    std::fs::write(folder.join("stderr"), stderr).wrap_err_with(failed)?;
    folder::write_files(&folder.join("out"), &decoded.files)
}

impl Report {
    /// What a person reads, on standard error: standard output belongs to the program.
    fn text(&self, limit: u64) -> String {
        let mut text = String::new();
        if !self.stderr.is_empty() {
            text += &format!("{}\n", self.stderr.trim_end());
        }
        let outcome = match self.exit_code {
            Some(code) => format!("ok, exit code {code}"),
            None if self.fuel == limit => format!("failed: all {limit} fuel burned; give more with --fuel"),
            None => "failed: the program trapped, called too deep, or wrote more than --output allows".to_owned(),
        };
        text += &format!("outcome      {outcome}\n");
        text += &format!("fuel         {}\n", self.fuel);
        text += &format!("output root  {} ({} bytes)\n", self.output_root, self.output_bytes);
        text += &format!(
            "time         {:.3} s (prepared in {:.3} s, compiled in {:.3} s)",
            self.execute_seconds, self.prepare_seconds, self.compile_seconds
        );
        if let Some(steps) = self.steps {
            text += &format!("\nsteps        {steps}");
        }
        for file in &self.files {
            text += &format!("\nfile         /out/{} ({} bytes)", file.path.escape_debug(), file.bytes);
        }
        if !self.profile.is_empty() {
            text += &format!("\n\n{}", profile::table(&self.profile));
        }
        text
    }
}
