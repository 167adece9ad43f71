//! `conun provider init`: asks what it is not told, says what each number means in tokens and a day, and registers.

use std::{io::IsTerminal, path::Path, process::ExitCode, time::Duration};

use alloy::{
    primitives::{Address, U256},
    providers::DynProvider,
};
use clap::Args;
use conun_agent::{
    account,
    chain::Follower,
    core::Policy,
    fabric::{Preferences, bench},
    provider::{self, ProviderConfig},
    sandbox::Sandbox,
};
use conun_bindings::{Contracts, abi::Deployment, job};
use dialoguer::{Confirm, Input, Select, theme::ColorfulTheme};
use serde::Serialize;

use super::FolderArgs;
use crate::{
    cmd::network::NetworkArgs,
    context::{Context, parse_address},
    exit::Ending,
    output::{self, parse_tokens, tokens},
};

/// Seconds that the fuel rate is measured where it is not known.
const BENCH_SECONDS: u64 = 10;

const DAY: u64 = 86_400;

/// Most GB that a limit of disk space may be, an exabyte: more is a mistake.
const MOST_DISK: u64 = 1_000_000_000;

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Tokens to stake; leases lock parts of it.  [default: ten times the deployment's least]
    #[arg(long, value_name = "TOKENS", value_parser = parse_tokens)]
    stake: Option<U256>,
    /// Where earnings and, in the end, the stake go.  [default: the account]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    payout: Option<Address>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Batches executed at once.  [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: Option<u32>,
    /// Work whatever the owner does, also on battery and beside other programs.  [default: only while nobody needs this computer]
    #[arg(long)]
    run_always: bool,
    /// Least price, in tokens for 10^9 fuel.  [default: the least there is, 1wei]
    #[arg(long, value_name = "TOKENS", value_parser = parse_tokens)]
    min_price: Option<U256>,
    /// Take jobs of these categories only.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    categories: Vec<u32>,
    /// Work for members of these groups only: contracts with `balanceOf`, such as a collection of membership cards (EIP-721).
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = parse_address)]
    groups: Vec<Address>,
    /// Most memory that a task may ask for, MiB.  [default: 2048]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=4096))]
    max_memory: Option<u64>,
    /// Most disk space of the data folder, GB; 0 for no limit.  [default: 10, with --run-always no limit]
    #[arg(long, value_name = "GB", value_parser = clap::value_parser!(u64).range(..=MOST_DISK))]
    max_disk: Option<u64>,
    /// Milliseconds between looks at the chain.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    poll_millis: u64,
    /// Ask nothing, also on a terminal: what is not given has its default.
    #[arg(long, short)]
    yes: bool,
}

/// What the numbers come to.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outlook {
    /// Fuel a second of one worker, if it was ever measured here.
    fuel_per_second: Option<u64>,
    /// Least earnings of a day that is all work, token wei, before gas.
    least_a_day: Option<U256>,
    /// Open jobs.
    open_jobs: usize,
    /// What the best of them pays, token wei for 10^9 fuel.
    best_price: Option<U256>,
    /// Earnings of a day at that price.
    best_a_day: Option<U256>,
}

/// Fuel of a day that is all work, and what it earns at `price`, token wei for 10^9 fuel.
fn a_day(fuel_per_second: u64, workers: u32, price: U256) -> U256 {
    U256::from(fuel_per_second) * U256::from(workers) * U256::from(DAY) * price / U256::from(1_000_000_000u64)
}

impl Outlook {
    async fn new(reader: &DynProvider, contracts: Contracts, folder: &Path) -> eyre::Result<Self> {
        let mut follower = Follower::new(reader.clone(), contracts, 0).await?;
        let head = follower.poll().await?;
        let open = follower.index().jobs.values().filter(|entry| !entry.is_over() && !entry.cancelled);
        let prices: Vec<_> = open.map(|entry| U256::from(job::price_at(&entry.job, head.timestamp))).collect();
        Ok(Self {
            fuel_per_second: bench::Rate::read(folder).map(|rate| rate.fuel_per_second),
            open_jobs: prices.len(),
            best_price: prices.into_iter().max(),
            ..Self::default()
        })
    }

    fn reckon(&mut self, workers: u32, min_price: U256) {
        self.least_a_day = self.fuel_per_second.map(|rate| a_day(rate, workers, min_price));
        self.best_a_day = self.fuel_per_second.zip(self.best_price).map(|(rate, price)| a_day(rate, workers, price));
    }

    /// What the market pays.
    fn market(&self) -> String {
        match self.best_price {
            None => "no job is open now".to_owned(),
            Some(price) => {
                format!("{} jobs are open now, the best pays {} CON for 10^9 fuel", self.open_jobs, tokens(price))
            }
        }
    }

    /// The numbers in words.
    fn text(&self, workers: u32, min_price: U256) -> String {
        let Some(rate) = self.fuel_per_second else {
            return format!(
                "{}; how fast this computer is was never measured: `conun bench` does, and `conun provider init` then says what a day earns",
                self.market()
            );
        };
        let mut text = format!(
            "this computer burns {:.2} x 10^9 fuel a second with a worker, of which there are {workers}; a day that is all work earns {} CON at the least price, {} CON for 10^9 fuel, before gas",
            rate as f64 / 1e9,
            tokens(self.least_a_day.unwrap_or_default()),
            tokens(min_price),
        );
        text += &format!("; {}", self.market());
        if let Some(earned) = self.best_a_day {
            text += &format!(": {} CON a day", tokens(earned));
        }
        text
    }
}

pub(super) async fn init(context: &Context, mut args: InitArgs) -> eyre::Result<ExitCode> {
    let network = args.network.settings()?;
    let folder = args.folder.folder(context)?;
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !args.yes && !context.json();
    let name = match (&context.global.account, asks) {
        (None, true) => ask_account(context)?,
        _ => context.account()?.to_owned(),
    };
    let signer = context.signer_named(&name)?;
    let (reader, chain_id) = context.reader().await?;
    let contracts = context.contracts(&reader, chain_id).await?;
    if asks && bench::Rate::read(&folder).is_none() {
        output::note(format_args!("measuring how fast this computer is, {BENCH_SECONDS} s ..."));
        let sandbox = Sandbox::new(std::env::current_exe()?, ["worker"]);
        bench::measure(&sandbox, args.workers.unwrap_or(1), Duration::from_secs(BENCH_SECONDS))
            .await?
            .write(&folder)?;
    }
    let mut outlook = Outlook::new(&reader, contracts, &folder).await?;
    if asks {
        let settings = Deployment::new(contracts.deployment, &reader).settings().call().await?;
        ask(&mut args, &mut outlook, signer.address(), U256::from(settings.minStake))?;
    }
    let (workers, min_price) = (args.workers.unwrap_or(1), args.min_price.unwrap_or(U256::from(1)));
    outlook.reckon(workers, min_price);
    let min_price_wei = min_price.try_into().map_err(|_| Ending::Usage("--min-price is too high".to_owned()))?;
    for list in &args.groups {
        let answer = provider::is_member(&reader, *list, signer.address()).await;
        answer.map_err(|text| eyre::eyre!("{text}; nothing was sent"))?;
    }
    let mut policy = Policy {
        workers,
        min_price: min_price_wei,
        categories: args.categories.into_iter().collect(),
        groups: args.groups.into_iter().collect(),
        ..Policy::default()
    };
    policy.max_memory_bytes = args.max_memory.map_or(policy.max_memory_bytes, |mib| mib << 20);
    let mut preferences = if args.run_always { Preferences::always() } else { Preferences::default() };
    preferences.disk_max_used_gb = args.max_disk.unwrap_or(preferences.disk_max_used_gb);
    let config = ProviderConfig {
        account: name,
        address: Some(signer.address()),
        rpc_url: context.rpc_url().to_owned(),
        second_rpc_url: None,
        listen: args.network.listen(context.rpc_url()),
        poll_millis: args.poll_millis,
        confirmations: 0,
        max_fee_gwei: None,
        metrics: None,
        policy,
        preferences,
        network,
        contracts,
    };
    let payout = args.payout.unwrap_or(signer.address());
    let registration = provider::register(&folder, &config, &signer, payout, args.stake).await?;
    let mut report = serde_json::to_value(&registration)?;
    report["outlook"] = serde_json::to_value(&outlook)?;
    output::result(context.json(), &report, |_| {
        format!(
            "{} {} as a provider with {} CON at stake; earnings go to {}",
            if registration.transaction.is_some() { "registered" } else { "made a new folder for" },
            registration.account,
            tokens(registration.stake),
            registration.payout
        )
    })?;
    output::note(outlook.text(workers, min_price));
    output::note(format_args!(
        "settings are in {}; start with `conun provider run`",
        ProviderConfig::file(&folder).display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn ask_account(context: &Context) -> eyre::Result<String> {
    let dir = context.keystore_dir()?;
    let names: Vec<_> = account::list(&dir)?.into_iter().map(|account| account.name).collect();
    if names.is_empty() {
        return Err(Ending::Usage(format!(
            "there are no accounts in {}: make one with `conun account new NAME`",
            dir.display()
        ))
        .into());
    }
    let chosen = Select::with_theme(&ColorfulTheme::default())
        .with_prompt("Account that signs; it can lose no more than its stake and its gas")
        .items(&names)
        .default(0)
        .interact()?;
    Ok(names[chosen].clone())
}

/// Asks for what was not given; each question says what an answer means.
fn ask(args: &mut InitArgs, outlook: &mut Outlook, account: Address, least_stake: U256) -> eyre::Result<()> {
    let theme = ColorfulTheme::default();
    let amount = |prompt: String, default: U256| -> eyre::Result<U256> {
        let read = |text: &String| parse_tokens(text).map(drop);
        let text: String = Input::with_theme(&theme)
            .with_prompt(prompt)
            .default(if default == U256::from(1) { "1wei".to_owned() } else { tokens(default) })
            .validate_with(read)
            .interact_text()?;
        parse_tokens(&text).map_err(|error| eyre::eyre!(error))
    };
    if args.payout.is_none() {
        let text: String = Input::with_theme(&theme)
            .with_prompt("Address that earnings and stake go to; best one whose key is not on this computer")
            .default(account.to_string())
            .validate_with(|text: &String| parse_address(text).map(drop))
            .interact_text()?;
        args.payout = Some(parse_address(&text).map_err(|error| eyre::eyre!(error))?);
    }
    if args.stake.is_none() {
        let prompt = format!(
            "Tokens at stake, at least {}; each lease locks a part, a wrong or withheld result loses it",
            tokens(least_stake)
        );
        args.stake = Some(amount(prompt, least_stake * U256::from(10))?);
    }
    if args.workers.is_none() {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        let workers = Input::with_theme(&theme)
            .with_prompt(format!("Batches executed at once, a processor each, of {processors}"))
            .default(1u32)
            .validate_with(|workers: &u32| match workers {
                1..=256 => Ok(()),
                _ => Err("1 to 256"),
            })
            .interact_text()?;
        args.workers = Some(workers);
    }
    if args.min_price.is_none() {
        let workers = args.workers.unwrap_or(1);
        let one = U256::from(10u64).pow(U256::from(18));
        let rate = outlook.fuel_per_second.unwrap_or_default();
        let prompt = format!(
            "Least price, CON for 10^9 fuel; 1 CON would be {} CON a day here, and {}",
            tokens(a_day(rate, workers, one)),
            outlook.market()
        );
        args.min_price = Some(amount(prompt, outlook.best_price.unwrap_or(U256::from(1)))?);
    }
    if args.categories.is_empty() {
        args.categories = ask_list(&theme, "Categories of jobs to take, as 1,2; nothing for all", |text| {
            text.parse().map_err(|_| format!("`{text}` is no category: write numbers, as 1,2"))
        })?;
    }
    if args.groups.is_empty() {
        let prompt =
            "Groups to whose members' jobs to keep, addresses of contracts with balanceOf; nothing for everybody's";
        args.groups = ask_list(&theme, prompt, parse_address)?;
    }
    if args.max_memory.is_none() {
        let memory = Input::with_theme(&theme)
            .with_prompt("Most memory that a task may ask for, MiB; each worker may use as much")
            .default(Policy::default().max_memory_bytes >> 20)
            .validate_with(|mib: &u64| match mib {
                1..=4096 => Ok(()),
                _ => Err("1 to 4096"),
            })
            .interact_text()?;
        args.max_memory = Some(memory);
    }
    if !args.run_always {
        args.run_always = Confirm::with_theme(&theme)
            .with_prompt("Work also while you use this computer, and on battery?")
            .default(false)
            .interact()?;
    }
    if args.max_disk.is_none() {
        let preferences = if args.run_always { Preferences::always() } else { Preferences::default() };
        let disk = Input::with_theme(&theme)
            .with_prompt("Most disk space for programs, inputs and outputs, GB; 0 for no limit")
            .default(preferences.disk_max_used_gb)
            .validate_with(|gb: &u64| if *gb <= MOST_DISK { Ok(()) } else { Err(format!("at most {MOST_DISK}")) })
            .interact_text()?;
        args.max_disk = Some(disk);
    }
    outlook.reckon(args.workers.unwrap_or(1), args.min_price.unwrap_or_default());
    output::note(outlook.text(args.workers.unwrap_or(1), args.min_price.unwrap_or_default()));
    let go = Confirm::with_theme(&theme).with_prompt("Register?").default(true).interact()?;
    if !go {
        return Err(eyre::eyre!("nothing was sent, nothing was written"));
    }
    Ok(())
}

/// Asks for a list with commas between; nothing is none.
fn ask_list<T>(
    theme: &ColorfulTheme,
    prompt: &str,
    read_one: impl Fn(&str) -> Result<T, String>,
) -> eyre::Result<Vec<T>> {
    let read = |text: &str| -> Result<Vec<T>, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(&read_one).collect()
    };
    let text: String = Input::with_theme(theme)
        .with_prompt(prompt)
        .allow_empty(true)
        .validate_with(|text: &String| read(text).map(drop))
        .interact_text()?;
    read(&text).map_err(|error| eyre::eyre!(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_reckoned_in_token_wei() {
        // 1.5 x 10^9 fuel a second on two workers at 2 CON for 10^9 fuel: 6 CON a second.
        let con = U256::from(10u64).pow(U256::from(18));
        assert_eq!(a_day(1_500_000_000, 2, con * U256::from(2)), con * U256::from(6 * DAY));
        let mut outlook =
            Outlook { fuel_per_second: Some(1_500_000_000), open_jobs: 3, best_price: Some(con), ..Outlook::default() };
        outlook.reckon(1, U256::from(1));
        let text = outlook.text(1, U256::from(1));
        assert!(
            text.contains("1.50 x 10^9 fuel") && text.contains("3 jobs are open") && text.contains("129600 CON a day"),
            "{text}"
        );
        assert!(Outlook::default().text(1, con).contains("conun bench"));
    }
}
