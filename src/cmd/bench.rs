//! `conun bench`: how fast this computer is.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use conun_agent::{
    fabric::{Preferences, bench},
    provider::ProviderConfig,
    sandbox::Sandbox,
};
use eyre::Context as _;

use super::provider::FolderArgs;
use crate::{context::Context, output};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Seconds to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Worker processes at once.  [default: as many as the provider's preferences allow, or all processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
}

pub(crate) async fn run(context: &Context, args: BenchArgs) -> eyre::Result<ExitCode> {
    let folder = args.folder.folder(context)?;
    let workers = match args.workers {
        Some(workers) => workers,
        None => {
            let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
            match ProviderConfig::read(&folder) {
                Ok(config) => config.preferences.processors(processors),
                Err(conun_agent::provider::Error::NoFolder(_)) => Preferences::default().processors(processors),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let sandbox = Sandbox::new(std::env::current_exe()?, ["worker"]);
    let rate = bench::measure(&sandbox, workers, Duration::from_secs(args.seconds)).await?;
    rate.write(&folder).wrap_err_with(|| format!("the figure cannot be kept in {}", folder.display()))?;
    output::result(context.json(), &rate, |rate| {
        format!(
            "{:.2} gigafuel a second and worker, {} at once: {} tasks of a path tracer in {:.1} s",
            rate.fuel_per_second as f64 / 1e9,
            rate.workers,
            rate.tasks,
            rate.millis as f64 / 1e3
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
