//! `conun wasm`: what a program is and does, on this machine alone.

mod folder;
mod profile;
mod run;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use alloy::primitives::B256;
use bytesize::ByteSize;
use clap::{Args, Subcommand};
use conun_vm::{Limits, Prepared, prepare};
use eyre::Context as _;
use serde::Serialize;

pub(crate) use run::Engine;

use crate::{context::Context, output};

#[derive(Debug, Subcommand)]
pub(crate) enum WasmCommand {
    /// Say whether providers accept a program; if not, every reason, where it is, and what to change.
    Check {
        /// The program: a WASI preview1 command.
        program: PathBuf,
    },
    /// Write the module that every engine executes: with WASI, fuel, depth and canonical NaNs inside.
    Prepare {
        /// The program.
        program: PathBuf,
        /// Where the prepared module goes.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        caps: Caps,
    },
    /// Print the program root, which a job commits to: what the machine that decides disputes begins with.
    Root {
        /// The program.
        program: PathBuf,
        #[command(flatten)]
        caps: Caps,
    },
    /// Execute a program as a provider would, and show outcome, fuel, output root and time.
    ///
    /// What the program writes to standard output and error comes out here, too. Exit code 0 only if it ends with 0.
    ///
    /// Examples:
    ///   conun wasm run hello.wasm --stdin names.txt
    ///   conun wasm run filter.wasm --arg=--blur --dir data=./pictures --out results --fuel 1000000000
    #[command(verbatim_doc_comment)]
    Run(Box<run::RunArgs>),
}

/// What a job would allow a task.
#[derive(Clone, Debug, Args)]
pub(crate) struct Caps {
    /// Most memory of a task: `256MiB`, `1GiB`.
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    memory: ByteSize,
    /// Most output of a task.
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    output: ByteSize,
}

impl Caps {
    fn limits(&self) -> Limits {
        Limits { memory_bytes: self.memory.as_u64(), output_bytes: self.output.as_u64() }
    }
}

pub(crate) fn run(context: &Context, command: WasmCommand) -> eyre::Result<ExitCode> {
    match command {
        WasmCommand::Check { program } => check(context, &program),
        WasmCommand::Prepare { program, out, caps } => prepare_file(context, &program, &out, &caps),
        WasmCommand::Root { program, caps } => root(context, &program, &caps),
        WasmCommand::Run(args) => run::run(context, &args),
    }
}

fn read(program: &Path) -> eyre::Result<Vec<u8>> {
    std::fs::read(program).wrap_err_with(|| format!("cannot read {}", program.display()))
}

#[derive(Serialize)]
struct Checked {
    accepted: bool,
    refusals: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    /// Index of the function that it is in.
    function: Option<u32>,
    /// That function's name.
    name: Option<String>,
    /// Byte of the file, if there is one to blame.
    offset: Option<u64>,
    /// What is wrong and what to change.
    reason: String,
}

fn check(context: &Context, program: &Path) -> eyre::Result<ExitCode> {
    let refusals = conun_vm::refusals(&read(program)?);
    let refused = refusals.into_iter().map(|refusal| Refused {
        offset: refusal.reason.offset(),
        reason: refusal.reason.to_string(),
        function: refusal.function.as_ref().map(|function| function.index),
        name: refusal.function.and_then(|function| function.name),
    });
    let refusals: Vec<_> = refused.collect();
    let checked = Checked { accepted: refusals.is_empty(), refusals };
    output::result(context.json(), &checked, |checked| {
        if checked.accepted {
            return format!("accepted: {}", program.display());
        }
        let line = |refused: &Refused| {
            let name = refused.name.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default();
            let place = refused.function.map(|index| format!("in function {index}{name}: ")).unwrap_or_default();
            format!("refused: {place}{}", refused.reason)
        };
        checked.refusals.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(if checked.accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Serialize)]
struct PreparedFile {
    file: PathBuf,
    bytes: usize,
    root: B256,
}

fn prepare_file(context: &Context, program: &Path, out: &Path, caps: &Caps) -> eyre::Result<ExitCode> {
    let prepared = prepare(&read(program)?, &caps.limits())?;
    let root = program_root(&prepared)?;
    std::fs::write(out, prepared.as_bytes()).wrap_err_with(|| format!("cannot write {}", out.display()))?;
    let report = PreparedFile { file: out.to_owned(), bytes: prepared.as_bytes().len(), root };
    output::result(context.json(), &report, |report| {
        format!("{} has {} bytes, program root {}", report.file.display(), report.bytes, report.root)
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Root {
    root: B256,
}

fn root(context: &Context, program: &Path, caps: &Caps) -> eyre::Result<ExitCode> {
    let root = program_root(&prepare(&read(program)?, &caps.limits())?)?;
    output::result(context.json(), &Root { root }, |report| report.root.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn program_root(prepared: &Prepared) -> eyre::Result<B256> {
    Ok(conun_vm::roots::program_root(prepared)?.into())
}
