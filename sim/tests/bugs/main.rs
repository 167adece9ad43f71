//! Are the simulator's invariants worth something? Bugs of the kinds that there have been are planted, one at a time, and a run of some
//! scenario that comes along has to notice: it breaks an invariant, panics or misses what it expects, where the code without the bug
//! does not.
//!
//! All patches have to fit the tree. Bugs are patches in `sim/bugs`, each with a header of its own ([`bug::Bug`]). Without arguments those marked `Always` are looked for:
//! bugs in contracts, which are compiled and deployed without building anything else. Arguments:
//!
//! - `--minutes N`: all of them, each in a copy of the tree that is built, until the time is over
//! - `--done FILE`: what that file says is not done again, and what is done is added to it
//! - `--table FILE`: writes what was found there
//! - `--built FOLDER`: programs with a bug in them that are there already, each under its bug's name, are not built again
//! - `--keep FOLDER`: there the scenario of the first bug is written, made smaller
//! - `--hunt SCENARIO,...` (and `--from RUNS`): only tells what is wrong with this very program; a patched copy of it is called so
//! - words: only bugs with one of them in their names

mod bug;
mod hunt;
mod record;
mod tree;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use bug::Bug;
use hunt::Event;
use record::{Outcome, Record};

/// Runs in which a bug has to be found.
const MOST_RUNS: u64 = 1_000;

/// The same of the bugs that are always looked for.
const ALWAYS_RUNS: u64 = 24;

type Result<T> = std::result::Result<T, String>;

#[derive(Debug, Default)]
struct Arguments {
    minutes: Option<u64>,
    done: Option<PathBuf>,
    table: Option<PathBuf>,
    keep: Option<PathBuf>,
    built: Option<PathBuf>,
    hunt: Option<Vec<String>>,
    from: u64,
    words: Vec<String>,
}

impl Arguments {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut parsed = Self::default();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            let number = |text: String| text.parse().map_err(|_| format!("{arg} takes a number, not {text}"));
            match arg.as_str() {
                "--minutes" => parsed.minutes = Some(number(value()?)?),
                "--done" => parsed.done = Some(value()?.into()),
                "--table" => parsed.table = Some(value()?.into()),
                "--built" => parsed.built = Some(value()?.into()),
                "--keep" => parsed.keep = Some(value()?.into()),
                "--from" => parsed.from = number(value()?)?,
                "--hunt" => parsed.hunt = Some(value()?.split(',').map(str::to_owned).collect()),
                // What `cargo test -- ...` gives to all tests.
                _ if arg.starts_with("--") => {}
                _ => parsed.words.push(arg),
            }
        }
        Ok(parsed)
    }

    fn wants(&self, bug: &Bug) -> bool {
        (self.minutes.is_some() || bug.always)
            && (self.words.is_empty() || self.words.iter().any(|word| bug.name.contains(word.as_str())))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("sim/ is in the repository")
}

/// Runs in which a scenario is made smaller.
const SHRINK_RUNS: u32 = 30;

/// Looks for a bug from run `from` on. `shrink`: if it is found, a smaller scenario must show it, too, which is written where that says.
fn look(
    bug: &Bug,
    (from, most): (u64, u64),
    end: Option<Instant>,
    shrink: Option<Option<&Path>>,
    built: Option<&Path>,
) -> Result<Outcome> {
    let (mut outcome, mut trouble) = (Outcome::NotIn(from), None);
    let mut tell = |event: Event| {
        match event {
            Event::Runs(runs) => outcome = Outcome::NotIn(runs),
            Event::Found(finding) => match hunt::is_new(&finding) {
                Ok(false) => {}
                Ok(true) => {
                    outcome = Outcome::Found(finding);
                    return ControlFlow::Break(());
                }
                Err(error) => {
                    trouble = Some(error);
                    return ControlFlow::Break(());
                }
            },
        }
        if end.is_some_and(|end| Instant::now() >= end) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    if bug.is_in_contracts() {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        tree::compile(root(), bug, folder.path())?;
        hunt::hunt(&bug.scenarios, Some(folder.path()), from, most, &mut tell)?;
        if let (Some(keep), Outcome::Found(finding)) = (shrink, &outcome) {
            let text = hunt::shrunk(finding, folder.path(), SHRINK_RUNS)?;
            if let Some(path) = keep.map(|keep| keep.join(&bug.name).with_extension("toml")) {
                std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
    } else {
        let built = built.map(|folder| folder.join(&bug.name)).filter(|program| program.exists());
        let program = built.map_or_else(|| tree::build(root(), bug), Ok)?;
        listen(&program, bug, from, end, &mut tell)?;
    }
    trouble.map_or(Ok(outcome), Err)
}

/// Takes in what a patched copy of this program tells, until `end`: a bug may keep a run from ending.
fn listen(
    program: &Path,
    bug: &Bug,
    from: u64,
    end: Option<Instant>,
    tell: &mut impl FnMut(Event) -> ControlFlow<()>,
) -> Result<()> {
    let mut command = Command::new(program);
    command.args(["--hunt", &bug.scenarios.join(","), "--from", &from.to_string()]);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || output.lines().map_while(std::io::Result::ok).try_for_each(|line| sender.send(line)));
    loop {
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        match lines.recv_timeout(left) {
            Ok(line) => {
                if Event::parse(&line).is_some_and(|event| tell(event).is_break()) {
                    break;
                }
            }
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait().map_err(|error| error.to_string())?;
                return if status.success() {
                    Ok(())
                } else {
                    Err(format!("the program with the bug ended with {status}"))
                };
            }
        }
    }
    let _ = child.kill();
    child.wait().map(drop).map_err(|error| error.to_string())
}

fn search(arguments: &Arguments) -> Result<bool> {
    let bugs = Bug::all(&root().join("sim/bugs"))?;
    bugs.iter().try_for_each(|bug| tree::check(bug, root()))?;
    let mut record = Record::open(arguments.done.as_deref())?;
    let end = arguments.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let most = if end.is_some() { MOST_RUNS } else { ALWAYS_RUNS };
    let mut all_found = true;
    let mut to_shrink = end.is_none() || arguments.keep.is_some();
    for bug in bugs.iter().filter(|bug| arguments.wants(bug)) {
        let from = match record.of(bug) {
            Some(Outcome::NotIn(runs)) if *runs < most => *runs,
            Some(_) => continue,
            None => 0,
        };
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        let shrink = std::mem::take(&mut to_shrink).then_some(arguments.keep.as_deref());
        let outcome = look(bug, (from, most), end, shrink, arguments.built.as_deref())
            .map_err(|error| format!("{}: {error}", bug.name))?;
        let text = match &outcome {
            Outcome::Found(finding) => format!("run {}, {:?}: {}", finding.runs, finding.seeds, finding.what),
            Outcome::NotIn(runs) => format!("not found in {runs} runs; {} should have noticed", bug.noticed_by),
        };
        say(&format!("{}: {text}", bug.name))?;
        all_found &= end.is_some() || matches!(outcome, Outcome::Found(_));
        record.note(bug, outcome)?;
    }
    if let Some(path) = &arguments.table {
        let text = format!(
            "# Planted bugs\n\nWritten by `scripts/long bugs`; [simulator.md](simulator.md#bugs-that-are-planted) says what they are for.\n\n{}",
            record.table(&bugs)
        );
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(all_found)
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| error.to_string())
}

fn work() -> Result<bool> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    // Planted bugs panic, and that is told as what it is.
    std::panic::set_hook(Box::new(|_| {}));
    match &arguments.hunt {
        Some(first) => {
            let mut tell = |event: Event| match say(&event.line()) {
                Ok(()) => ControlFlow::Continue(()),
                // Nobody listens any more.
                Err(_) => ControlFlow::Break(()),
            };
            hunt::hunt(first, None, arguments.from, MOST_RUNS, &mut tell).map(|()| true)
        }
        None => search(&arguments),
    }
}

fn main() -> ExitCode {
    match work() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
