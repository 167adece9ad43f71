//! The provider as a systemd service: its unit, and what it tells the service manager while it runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use conun_agent::provider::Running;
use eyre::{Context as _, bail};
use sd_notify::NotifyState;
use serde_json::json;

use super::FolderArgs;
use crate::{
    context::{Context, PASSWORD_CREDENTIAL},
    exit::Ending,
    output,
};

/// Name of the unit.
const UNIT: &str = "conun-provider.service";

/// Name of the slice it runs in. Processors are shared among slices before they are among the processes of one, whatever those'
/// priorities: beside the owner's programs in other slices, only the weight of this one counts.
const SLICE: &str = "conun.slice";

const SLICE_TEXT: &str = "# Made by `conun provider install-service`.
[Unit]
Description=CONUN: everything else comes first

[Slice]
# Of 1 to 10000; all others have 100.
CPUWeight=1
IOWeight=1
";

/// Seconds without a sign of life after which systemd starts the agent anew. A look at the chain through an endpoint that does not
/// answer takes a minute.
const WATCHDOG_SECONDS: u32 = 300;

#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// For the whole machine, as a user made for it, instead of for you while you are logged in.
    #[arg(long)]
    system: bool,
    /// Print the unit and write nothing.
    #[arg(long)]
    print: bool,
}

/// What a unit is made of.
struct Unit<'a> {
    command: &'a Path,
    folder: &'a Path,
    keystore: &'a Path,
    password: &'a Path,
    system: bool,
}

pub(super) fn install(context: &Context, args: ServiceArgs) -> eyre::Result<ExitCode> {
    let folder = std::path::absolute(args.folder.folder(context)?)?;
    let config = super::config(context, &folder)?;
    let keystore = conun_agent::account::file(&context.keystore_dir()?, &config.account);
    conun_agent::account::require(&context.keystore_dir()?, &config.account)?;
    let Some(password) = &context.global.password_file else {
        bail!(Ending::Usage(
            "a service cannot ask for a password: write it to a file that only you can read (chmod 600) and give --password-file FILE"
                .to_owned()
        ));
    };
    let password = std::path::absolute(password)?;
    require_private(&password)?;
    let command = std::env::current_exe()?;
    let keystore = std::path::absolute(keystore)?;
    let unit =
        Unit { command: &command, folder: &folder, keystore: &keystore, password: &password, system: args.system };
    let text = unit.text()?;
    let files = [(UNIT, text.as_str()), (SLICE, SLICE_TEXT)];
    if args.print {
        for (name, text) in files {
            output::bytes(format!("# {name}\n{text}\n").as_bytes())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (dir, systemctl) = match args.system {
        true => (PathBuf::from("/etc/systemd/system"), "systemctl"),
        false => (context.config_home()?.join("systemd/user"), "systemctl --user"),
    };
    let (path, slice) = (dir.join(UNIT), dir.join(SLICE));
    for (name, text) in files {
        let path = dir.join(name);
        let written = fs::create_dir_all(&dir).and_then(|()| fs::write(&path, text));
        written.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                eyre::eyre!("cannot write {}: run it with sudo, or without --system", path.display())
            }
            _ => eyre::eyre!("cannot write {}: {error}", path.display()),
        })?;
    }
    let next = format!("{systemctl} daemon-reload && {systemctl} enable --now {UNIT}");
    let report = json!({ "unit": path, "slice": slice, "next": next });
    output::result(context.json(), &report, |_| format!("wrote {} and {}", path.display(), slice.display()))?;
    output::note(format_args!("start it, now and with the machine:\n  {next}"));
    if !args.system {
        output::note("let it run while you are logged out:\n  loginctl enable-linger");
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails unless the password file is there and nobody else can read it.
fn require_private(path: &Path) -> eyre::Result<()> {
    let found = fs::metadata(path).wrap_err_with(|| format!("cannot read the password file {}", path.display()))?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o077 != 0 {
        bail!("others can read {}: chmod 600 it first; nothing was written", path.display());
    }
    let _ = found;
    Ok(())
}

/// A word of a unit's command line ([systemd.service](https://www.freedesktop.org/software/systemd/man/systemd.service.html#Command%20lines)).
fn quoted(path: &Path) -> eyre::Result<String> {
    let Some(text) = path.to_str().filter(|text| !text.contains(['\n', '\r'])) else {
        bail!("{} cannot be named in a unit: move it to a path of plain text", path.display());
    };
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    Ok(format!("\"{escaped}\""))
}

/// A path as a setting takes it: to the end of the line, with `%` doubled.
fn plain(path: &Path) -> eyre::Result<String> {
    let Some(text) = path.to_str().filter(|text| !text.contains(['\n', '\r', ' ', '"', ':'])) else {
        bail!("{} cannot be named in a unit: it must not contain blanks, quotes or colons", path.display());
    };
    Ok(text.replace('%', "%%"))
}

impl Unit<'_> {
    fn text(&self) -> eyre::Result<String> {
        let (command, folder) = (quoted(self.command)?, quoted(self.folder)?);
        let (keystore, password, writable) = (plain(self.keystore)?, plain(self.password)?, plain(self.folder)?);
        let home = plain(self.folder.parent().unwrap_or(self.folder))?;
        let (identity, target) = match self.system {
            // Its files are given to that user when the service starts.
            true => (
                format!("DynamicUser=yes\nStateDirectory=conun\nReadWritePaths={writable}\nProtectHome=yes\n"),
                "multi-user.target",
            ),
            false => (format!("ReadWritePaths={writable}\n"), "default.target"),
        };
        Ok(format!(
            "# Made by `conun provider install-service`.\n\
             [Unit]\n\
             Description=CONUN provider: lends this computer's idle time\n\
             Wants=network-online.target\n\
             After=network-online.target\n\
             \n\
             [Service]\n\
             Type=notify\n\
             ExecStart={command} provider run --data-dir {folder} --keystore-dir ${{CREDENTIALS_DIRECTORY}} --account keystore --divide-cgroup\n\
             Environment=CONUN_HOME={home}\n\
             LoadCredential=keystore:{keystore}\n\
             LoadCredential={PASSWORD_CREDENTIAL}:{password}\n\
             WatchdogSec={WATCHDOG_SECONDS}\n\
             Restart=on-failure\n\
             RestartSec=10\n\
             # A registration or a setting that is wrong does not mend itself.\n\
             RestartPreventExitStatus=2\n\
             TimeoutStopSec=60\n\
             {identity}\
             # Workers confine themselves further. They make machine code: no MemoryDenyWriteExecute.\n\
             NoNewPrivileges=yes\n\
             ProtectSystem=strict\n\
             PrivateTmp=yes\n\
             ProtectKernelTunables=yes\n\
             ProtectKernelModules=yes\n\
             RestrictSUIDSGID=yes\n\
             RestrictRealtime=yes\n\
             LockPersonality=yes\n\
             RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n\
             # The agent gives way to everything else; its workers, within the slice, to the agent.\n\
             Slice={SLICE}\n\
             # So that it may have them in a control group of their own.\n\
             Delegate=cpu io\n\
             # A worker that is killed may be raised to the agent's own priority, so that it is gone soon.\n\
             LimitNICE=+0\n\
             \n\
             [Install]\n\
             WantedBy={target}\n"
        ))
    }
}

/// Tells the service manager, if there is one, how the agent is doing: the protocol of sd_notify(3).
pub(super) struct Manager {
    watched: bool,
}

impl Manager {
    pub(super) fn new() -> Self {
        Self { watched: sd_notify::watchdog_enabled().is_some_and(|period| period > Duration::ZERO) }
    }

    /// Takes in what the provider says. Whatever it says of the chain is a sign of life, that it cannot be reached as well.
    pub(super) fn note(&self, event: &Running) {
        match event {
            Running::Ready { provider, .. } => {
                self.tell(&[NotifyState::Ready, NotifyState::Status(&format!("provider {provider} is ready"))]);
            }
            Running::Looked(look) => self.alive(&format!("block {}, {} s old", look.head.number, look.lag_seconds)),
            // One line: a status has no more.
            Running::Trouble(reason) => self.alive(&reason.replace('\n', " ")),
            _ => {}
        }
    }

    fn alive(&self, status: &str) {
        let states = [NotifyState::Status(status), NotifyState::Watchdog];
        self.tell(if self.watched { &states } else { &states[..1] });
    }

    pub(super) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            tracing::debug!(target: "conun::provider", %error, "the service manager does not listen");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(folder: &str, system: bool) -> eyre::Result<String> {
        let (command, keystore, password) = (Path::new("/opt/a b/conun"), Path::new("/k/lender"), Path::new("/k/p"));
        Unit { command, folder: Path::new(folder), keystore, password, system }.text()
    }

    #[test]
    fn a_unit_names_its_files_and_carries_no_secret() {
        let text = unit("/home/me/100%/provider", false).unwrap();
        for line in [
            "Type=notify",
            "ExecStart=\"/opt/a b/conun\" provider run --data-dir \"/home/me/100%%/provider\" --keystore-dir ${CREDENTIALS_DIRECTORY} --account keystore --divide-cgroup",
            "LoadCredential=password:/k/p",
            "ReadWritePaths=/home/me/100%%/provider",
            "WantedBy=default.target",
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in {text}");
        }
        assert!(!text.contains("DynamicUser"));
        assert!(unit("/var/lib/conun/provider", true).unwrap().contains("DynamicUser=yes"));
    }

    #[test]
    fn a_path_that_a_unit_cannot_name_is_refused() {
        for folder in ["/home/a b", "/home/x\nExecStart=/bin/evil", "/a:b"] {
            assert!(unit(folder, false).unwrap_err().to_string().contains("cannot be named in a unit"), "{folder}");
        }
    }
}
