//! `conun completions` and `conun man`: what shells and manual pages make of the command line.

use std::{path::Path, process::ExitCode};

use clap::CommandFactory;
use clap_complete::Shell;
use eyre::Context as _;

use crate::{cli::Cli, output};

pub(crate) fn completions(shell: Shell) -> eyre::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "conun", &mut script);
    output::bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(dir: &Path) -> eyre::Result<ExitCode> {
    let failed = || format!("cannot write manual pages to {}", dir.display());
    std::fs::create_dir_all(dir).wrap_err_with(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).wrap_err_with(failed)?;
    output::note(format_args!("read them with `man -l {}`", dir.join("conun.1").display()));
    Ok(ExitCode::SUCCESS)
}
