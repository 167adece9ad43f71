//! From results to exit codes: 0 done, 1 failed, 2 usage, 75 try again later, 130 interrupted.

use std::{process::ExitCode, time::Duration};

use crate::{
    cli::{Cli, Command},
    cmd,
    context::Context,
    output,
};

/// Most time that what still runs has to end once the command is done.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// Ends the command with a certain exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ending {
    /// Something that waiting may mend: an endpoint that does not answer, no funds yet.
    #[error("{0}")]
    Temporary(String),
    /// The options contradict each other or lack something that only running the command can tell.
    #[error("{0}")]
    Usage(String),
    /// Control-C.
    #[error("interrupted")]
    Interrupted,
}

impl Ending {
    fn code(&self) -> u8 {
        match self {
            Self::Temporary(_) => 75,
            Self::Usage(_) => 2,
            Self::Interrupted => 130,
        }
    }
}

pub(crate) fn run(cli: Cli) -> ExitCode {
    let json = cli.global.json;
    match dispatch(cli) {
        Ok(code) => code,
        Err(report) => {
            output::error(json, &report);
            let code = report.chain().find_map(|cause| cause.downcast_ref::<Ending>()).map_or(1, Ending::code);
            ExitCode::from(code)
        }
    }
}

fn dispatch(cli: Cli) -> eyre::Result<ExitCode> {
    if matches!(cli.command, Command::Worker) {
        return cmd::worker();
    }
    output::init_logging(cli.global.log_format);
    let context = Context::new(cli.global);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => cmd::demo::run(&context, args).await,
            Command::Devnet(args) => cmd::devnet::run(&context, args).await,
            Command::Deploy(args) => cmd::deploy::run(&context, args).await,
            Command::Provider(command) => cmd::provider::run(&context, command).await,
            Command::Job(command) => cmd::job::run(&context, command).await,
            Command::Account(command) => cmd::account::run(&context, command).await,
            Command::Wasm(command) => cmd::wasm::run(&context, command),
            Command::Sim(command) => cmd::sim::run(&context, command).await,
            Command::Replay(args) => cmd::replay::run(&context, args).await,
            Command::Audit(args) => cmd::audit::run(&context, args).await,
            Command::Relay(args) => cmd::relay::run(&context, args).await,
            Command::Bench(args) => cmd::bench::run(&context, args).await,
            Command::Doctor => cmd::doctor::run(&context).await,
            Command::Completions { shell } => cmd::shell::completions(shell),
            Command::Man { dir } => cmd::shell::man(&dir),
            Command::Worker => cmd::worker(),
        }
    });
    // What has been decided is told, even if a library's thread hangs.
    runtime.shutdown_timeout(LAST_MOMENT);
    code
}

/// Resolves when the user or the system asks the command to stop, from the call on: what comes before it is first waited for is not missed.
#[cfg(unix)]
pub(crate) fn signalled() -> impl Future<Output = ()> {
    use tokio::signal::unix::{Signal, SignalKind, signal};

    async fn next(signal: &mut Option<Signal>) {
        match signal {
            Some(signal) => drop(signal.recv().await),
            // Without a handler the system ends the process itself.
            None => std::future::pending().await,
        }
    }
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok());
    async move {
        let [interrupted, terminated] = &mut signals;
        tokio::select! {
            () = next(interrupted) => {}
            () = next(terminated) => {}
        }
    }
}

/// Resolves when the user or the system asks the command to stop.
#[cfg(not(unix))]
pub(crate) async fn signalled() {
    // Without a handler the system ends the process itself.
    let _ = tokio::signal::ctrl_c().await;
}
