//! `conun doctor`: what is wrong, and what to type.

mod provider;

use std::process::ExitCode;

use alloy::providers::Provider;
use conun_agent::{account, provider::ProviderConfig, sandbox::Sandbox};
use serde::Serialize;

use crate::{context::Context, output};

/// One check.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    /// What was found, or what to do.
    text: String,
}

#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn note<T>(&mut self, name: &'static str, result: Result<(T, String), String>) -> Option<T> {
        let (value, ok, text) = match result {
            Ok((value, text)) => (Some(value), true, text),
            Err(text) => (None, false, text),
        };
        self.0.push(Check { name, ok, text });
        value
    }
}

pub(crate) async fn run(context: &Context) -> eyre::Result<ExitCode> {
    let mut checks = Checks::default();
    let url = context.rpc_url();
    let reader = context.reader().await.map_err(|error| error.to_string());
    let reader =
        checks.note("endpoint", reader.map(|found| (found.clone(), format!("{url} serves chain {}", found.1))));
    let mut contracts = None;
    if let Some((provider, chain_id)) = &reader {
        let found = context.contracts(provider, *chain_id).await.map_err(|error| error.to_string());
        contracts = checks.note("contracts", found.map(|found| (found, format!("JobRegistry is at {}", found.jobs))));
        checks.note("clock", clock(provider).await);
    }
    let keystore = context.keystore_dir()?;
    let accounts = account::list(&keystore).map_err(|error| error.to_string());
    checks.note(
        "keystore",
        accounts.and_then(|accounts| match accounts.len() {
            0 => Err(format!("no accounts in {}: make one with `conun account new NAME`", keystore.display())),
            count => Ok(((), format!("{count} accounts in {}", keystore.display()))),
        }),
    );
    checks.note("keystore mode", mode(&keystore));
    checks.note("sandbox", confinement().await);
    checks.note("engine", Ok(((), engine())));
    let folder = context.data_home()?.join("provider");
    if let Ok(config) = ProviderConfig::read(&folder) {
        let endpoint = reader.as_ref().zip(contracts.as_ref()).map(|((reader, _), contracts)| (reader, contracts));
        provider::check(&mut checks, &folder, &config, endpoint).await;
    }
    let failed = checks.0.iter().any(|check| !check.ok);
    output::result(context.json(), &checks.0, |checks| {
        let line = |check: &Check| format!("{} {}: {}", if check.ok { "ok  " } else { "FAIL" }, check.name, check.text);
        checks.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Block time against this machine's.
async fn clock(provider: &alloy::providers::DynProvider) -> Result<((), String), String> {
    let block = provider.get_block(alloy::eips::BlockId::latest()).await.map_err(|error| error.to_string())?;
    let block = block.ok_or("the endpoint has no latest block")?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let age = now.abs_diff(block.header.timestamp);
    if age > 300 {
        return Err(format!(
            "the latest block ({}) is {age} s from this machine's clock: the endpoint lags, or the clock is wrong",
            block.header.number
        ));
    }
    Ok(((), format!("block {} is {age} s from this machine's clock", block.header.number)))
}

/// What keeps tasks of strangers in on this machine. A layer that its kernel does not have is told, but is no failure: the others hold.
async fn confinement() -> Result<((), String), String> {
    let sandbox = Sandbox::new(std::env::current_exe().map_err(|error| error.to_string())?, ["worker"]).as_guest();
    let found = sandbox.confinement(std::time::Duration::from_secs(10)).await.map_err(|error| error.to_string())?;
    let lines: Vec<_> = found
        .layers
        .into_iter()
        .map(|layer| match layer.missing {
            None => layer.name,
            Some(reason) => format!("WITHOUT {}: {reason}", layer.name),
        })
        .collect();
    Ok(((), format!("workers have {}", lines.join("; "))))
}

#[cfg(unix)]
fn mode(keystore: &std::path::Path) -> Result<((), String), String> {
    use std::os::unix::fs::PermissionsExt;
    let entries = std::fs::read_dir(keystore).into_iter().flatten().flatten();
    let open: Vec<_> = entries
        .filter(|entry| entry.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o077 != 0))
        .map(|entry| entry.path().display().to_string())
        .collect();
    if open.is_empty() {
        Ok(((), "readable by you alone".to_owned()))
    } else {
        Err(format!("others can read keys: chmod 600 {}", open.join(" ")))
    }
}

#[cfg(not(unix))]
fn mode(_: &std::path::Path) -> Result<((), String), String> {
    Ok(((), "not checked on this system".to_owned()))
}

/// What compiled programs depend on: those of another engine or processor are compiled anew.
fn engine() -> String {
    format!("{} on {}", conun_vm::PROFILE, std::env::consts::ARCH)
}
