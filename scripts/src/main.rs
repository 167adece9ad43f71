//! Project scripts in Rust: `compile` makes `bindings/artifacts` from `contracts/`.
//!
//! Users never build this crate: it is what pulls in foundry-compilers, and the artifacts are checked in.

mod compile;
mod solc;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "conun-scripts", about = "Scripts for CONUN's developers")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile contracts/ into bindings/artifacts.
    ///
    /// Looks for solc in this order: --solc, $SOLC, `solc` on PATH, npm's solc (`npm ci`), and, if built with
    /// `--features svm`, svm's download.
    Compile {
        /// The compiler to use.
        #[arg(long, env = "SOLC", value_name = "PATH")]
        solc: Option<PathBuf>,
        /// Write nothing; fail if the artifacts are not what the compiler makes of the sources.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> eyre::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or_else(|| eyre::eyre!("scripts/ has no parent"))?;
    match Cli::parse().command {
        Command::Compile { solc, check } => {
            let artifacts = compile::artifacts(root, &solc::find(root, solc)?)?;
            let folder = root.join("bindings/artifacts");
            if check { compile::compare(&folder, &artifacts) } else { compile::write(&folder, &artifacts) }
        }
    }
}
