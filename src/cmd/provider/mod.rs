//! `conun provider`: lend this computer.

mod init;
mod leave;
mod service;
mod status;
mod why;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use conun_agent::{
    provider::{self, ProviderConfig, Running},
    sandbox::Sandbox,
};
use serde_json::json;

use crate::{
    context::Context,
    output::{self, short},
};

/// Most disk space for compiled programs, bytes.
const PROGRAMS_BYTES: u64 = 2 << 30;

#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// Register this account as a provider, with a stake, and make its data folder.
    Init(Box<init::InitArgs>),
    /// Work until told to stop (Control-C).
    Run(RunArgs),
    /// Show what the provider is doing, has earned, and has at stake.
    Status(status::StatusArgs),
    /// Stop work where it is and take nothing new, until `resume`; also across restarts.
    Pause(FolderArgs),
    /// Go on with the work, and take new work again.
    Resume(FolderArgs),
    /// Say for each job seen whether it was taken, or why not.
    Why(why::WhyArgs),
    /// Finish what is held, take nothing new, and stop once no stake is locked.
    Drain(leave::DrainArgs),
    /// Ask for the end of the registration: no new leases from now on, and the stake back when the exit is due.
    Exit(leave::ExitArgs),
    /// Send the earnings to the payout address; once an exit is due, the stake as well.
    Withdraw(FolderArgs),
    /// Write a systemd unit that runs the provider, and say how to start it.
    InstallService(service::ServiceArgs),
}

#[derive(Debug, Args)]
pub(crate) struct FolderArgs {
    /// The provider's data folder.  [default: ~/.conun/provider]
    #[arg(long, value_name = "DIR", env = "CONUN_PROVIDER_DIR")]
    data_dir: Option<PathBuf>,
}

impl FolderArgs {
    pub(crate) fn folder(&self, context: &Context) -> eyre::Result<PathBuf> {
        match &self.data_dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(context.data_home()?.join("provider")),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Its control group is its own to divide (`Delegate=cpu io` of a systemd unit): workers get one that comes after the agent's.
    #[arg(long)]
    divide_cgroup: bool,
}

pub(crate) async fn run(context: &Context, command: ProviderCommand) -> eyre::Result<ExitCode> {
    match command {
        ProviderCommand::Init(args) => init::init(context, *args).await,
        ProviderCommand::Run(args) => work(context, args).await,
        ProviderCommand::Status(args) => status::status(context, args).await,
        ProviderCommand::Pause(args) => pause(context, args, true),
        ProviderCommand::Resume(args) => pause(context, args, false),
        ProviderCommand::Why(args) => why::why(context, args),
        ProviderCommand::Drain(args) => leave::drain(context, args),
        ProviderCommand::Exit(args) => leave::exit(context, args).await,
        ProviderCommand::Withdraw(args) => leave::withdraw(context, args).await,
        ProviderCommand::InstallService(args) => service::install(context, args),
    }
}

/// The configuration of a folder, as far as flags and environment do not say otherwise.
fn config(context: &Context, folder: &std::path::Path) -> eyre::Result<ProviderConfig> {
    let mut config = ProviderConfig::read(folder)?;
    if let Some(url) = &context.global.rpc_url {
        config.rpc_url.clone_from(url);
    }
    if let Some(account) = &context.global.account {
        config.account.clone_from(account);
    }
    Ok(config)
}

async fn work(context: &Context, args: RunArgs) -> eyre::Result<ExitCode> {
    let folder = args.folder.folder(context)?;
    let config = config(context, &folder)?;
    let signer = context.signer_named(&config.account)?;
    context.require_node(&config.rpc_url).await?;
    let cache = conun_vm::native::Cache::open(&folder.join("programs"), PROGRAMS_BYTES)?;
    let mut sandbox = Sandbox::new(std::env::current_exe()?, ["worker"]).with_cache(cache);
    if args.divide_cgroup
        && let Err(reason) = sandbox.divide_group()
    {
        output::note(format_args!("workers have no control group of their own: {reason}"));
    }
    let json = context.json();
    if provider::is_draining(&folder) {
        output::note(
            "draining: it takes nothing new and stops once no stake is locked; `conun provider drain --off` ends that",
        );
    }
    let manager = service::Manager::new();
    let heard = |event: Running| {
        manager.note(&event);
        tell(json, event);
    };
    let result = provider::run(&folder, config, signer, sandbox, heard, crate::exit::signalled()).await;
    manager.stopping();
    result?;
    output::note("stopped");
    Ok(ExitCode::SUCCESS)
}

fn tell(json: bool, event: Running) {
    if json {
        event.record().into_iter().for_each(output::line);
        return;
    }
    match event {
        Running::Ready { provider, contact } => {
            output::note(format_args!(
                "provider {provider} is ready, listening on {}; Control-C stops it",
                contact.hint_text()
            ));
        }
        Running::Leased(job, batches) => output::note(format_args!("job {}: leased batches {batches:?}", short(job))),
        Running::Executed((job, batch), fuel, took) => {
            output::note(format_args!(
                "job {}: executed batch {batch}, {fuel} fuel in {:.1} s",
                short(job),
                took.as_secs_f64()
            ));
        }
        Running::NotExecuted((job, batch), reason) => {
            output::note(format_args!("job {}: batch {batch} not executed: {reason}", short(job)));
        }
        Running::Submitted(job, batches) => {
            output::note(format_args!("job {}: submitted batches {batches:?}", short(job)))
        }
        Running::Guest(text) => output::note(text),
        Running::Did(kind, job, batches) => {
            output::note(format_args!("job {}: {kind} of batches {batches:?}", short(job)))
        }
        Running::Trouble(reason) => output::note(format_args!("trouble: {reason}")),
        Running::Looked(_) => {}
    }
}

fn pause(context: &Context, args: FolderArgs, paused: bool) -> eyre::Result<ExitCode> {
    let folder = args.folder(context)?;
    provider::set_paused(&folder, paused)?;
    let state = json!({ "paused": paused });
    output::result(context.json(), &state, |_| if paused { "paused".to_owned() } else { "resumed".to_owned() })?;
    Ok(ExitCode::SUCCESS)
}
