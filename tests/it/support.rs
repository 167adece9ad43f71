//! What the end-to-end tests share: the command in a home of its own, and foundry's binaries.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for something that takes a second or two on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A folder that is home, working folder and keystore of the commands run in it.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), "correct horse\n").unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// The command, with nothing of this machine's environment that it would read.
    pub(crate) fn conun(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conun"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("ETH_") || name.starts_with("CONUN_") || name == "CHAIN" || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.args(args).env("HOME", self.folder.path()).env("ETH_PASSWORD", self.path("password"));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs it to the end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.conun(args);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let process = child.id().to_string();
        let (done, watch) = mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            if watch.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("still running after {PATIENCE:?}:\n{}", threads(&process));
                Command::new("kill").args(["-KILL", &process]).status().unwrap();
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(done);
        watchdog.join().unwrap();
        Ran::of(args, output)
    }

    /// Runs it with `--json` and takes the document; it must succeed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["--json"]].concat();
        let ran = self.run(&args).succeeded();
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error} in {}", ran.stdout))
    }

    /// Starts a devnet on a free port and waits until it serves.
    pub(crate) fn devnet(&self, args: &[&str]) -> Devnet {
        let args = [&["devnet", "--listen", "127.0.0.1:0", "--block-time", "0.25", "--json"], args].concat();
        let mut server = Server::start(self.conun(&args));
        let mut text = String::new();
        let report: Value = loop {
            text += &server.line();
            if let Ok(report) = serde_json::from_str(&text) {
                break report;
            }
        };
        Devnet { url: report["rpcUrl"].as_str().unwrap().to_owned(), report, server }
    }
}

/// A devnet process; ends with the test.
pub(crate) struct Devnet {
    pub(crate) url: String,
    pub(crate) report: Value,
    pub(crate) server: Server,
}

/// A command that ran to its end.
#[derive(Debug)]
#[expect(dead_code, reason = "`args` and `status` are for the message of a failed assertion")]
pub(crate) struct Ran {
    args: Vec<String>,
    status: ExitStatus,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn of(args: &[&str], output: Output) -> Self {
        Self {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            status: output.status,
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// It ended with `code` and told the user each of `words`.
    pub(crate) fn refused(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in {self:#?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }
}

/// What each thread of a process waits for, as far as the system tells.
fn threads(process: &str) -> String {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return String::new() };
    let told = |thread: std::fs::DirEntry| {
        let of = |file| std::fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let [name, state, place, call] = ["comm", "stat", "wchan", "syscall"].map(of);
        let state =
            state.rsplit(')').next().unwrap_or_default().split_whitespace().next().unwrap_or_default().to_owned();
        format!("  {} {state} {place} {}\n", name.trim(), call.trim())
    };
    threads.flatten().map(told).collect()
}

/// A process that goes on; killed at the end of the test.
pub(crate) struct Server {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Server {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::inherit()));
        let lines = lines(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Starts a command of which what it tells on standard error is heard, instead of its result.
    pub(crate) fn hear(mut command: Command) -> Self {
        let mut child = spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()));
        let lines = lines(child.stderr.take().unwrap());
        Self { child, lines }
    }

    /// The next line of what is heard.
    pub(crate) fn line(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no more output: {:?}", self.child.try_wait()))
    }

    /// Waits for a line that contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends a signal, as `kill` does.
    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command) -> Child {
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error} (foundry's binaries: `scripts/test` installs them)"))
}

fn lines(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // The test may have heard enough; the pipe is drained all the same.
            let _ = sender.send(line + "\n");
        }
    });
    lines
}

/// Arguments of a `conun job` command that goes on until the job is over, by the account `client`.
pub(crate) fn client<'a>(url: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["job"][..], args, &["--account", "client", "--rpc-url", url, "--poll-millis", "100"]].concat()
}

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One of foundry's binaries: the one that `scripts/test` installs from npm, else the one on PATH.
pub(crate) fn foundry(tool: &str) -> PathBuf {
    let packages = root().join("node_modules/@foundry-rs");
    std::fs::read_dir(&packages)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|package| package.file_name().to_string_lossy().starts_with(&format!("{tool}-")))
        .map(|package| package.path().join("bin").join(tool))
        .find(|binary| binary.exists())
        .unwrap_or_else(|| tool.into())
}

/// Runs foundry's `cast`; it must succeed.
pub(crate) fn cast(url: &str, args: &[&str]) -> String {
    let output = Command::new(foundry("cast")).args(args).args(["--rpc-url", url]).output().unwrap();
    assert!(output.status.success(), "cast {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A real anvil on a free port.
pub(crate) fn anvil(args: &[&str]) -> (Server, String) {
    let mut command = Command::new(foundry("anvil"));
    command.args(["--port", "0"]).args(args);
    let mut server = Server::start(command);
    let line = server.wait_for("Listening on ");
    let url = format!("http://{}", line.trim().trim_start_matches("Listening on "));
    (server, url)
}
