//! The fault suite: what a provider's agent must survive, done to a real agent on a real chain.
//!
//! Without arguments a part of it runs, in which there is every kind of fault, and anything lost fails it. Arguments:
//!
//! - `--minutes N`: all of it, then again with other seeds, until the time is over
//! - `--done FILE`: what that file says has been done is not done again, and what is done is added to it
//! - `--anvil PROGRAM`: on that anvil instead of the in-process chain, where it makes a difference
//! - words: only faults with one of them in the names of their kind or their own

mod clock;
mod crash;
mod disk;
mod lies;
mod machine;
mod market;
mod random;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

/// Items at once: most of their time they wait.
const AT_ONCE: usize = 3;

/// A fault, or a few of one kind, and what is to be asserted after them.
pub(crate) struct Item {
    /// A row of the table.
    pub(crate) kind: String,
    /// What tells it from others of its kind.
    pub(crate) name: String,
    /// Whether it is of the part that always runs.
    pub(crate) always: bool,
    /// Injects; how many faults there were. Panics if anything is lost.
    pub(crate) run: Pin<Box<dyn Future<Output = u64> + Send>>,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    minutes: Option<u64>,
    done: Option<PathBuf>,
    pub(crate) anvil: Option<PathBuf>,
    words: Vec<String>,
}

impl Plan {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut plan = Self::default();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--minutes" => plan.minutes = Some(value()?.parse().map_err(|_| "--minutes takes a number")?),
                "--done" => plan.done = Some(value()?.into()),
                "--anvil" => plan.anvil = Some(value()?.into()),
                // What `cargo test -- ...` gives to all tests.
                _ if arg.starts_with("--") => {}
                _ => plan.words.push(arg),
            }
        }
        Ok(plan)
    }

    fn wants(&self, item: &Item) -> bool {
        (self.minutes.is_some() || item.always)
            && (self.words.is_empty()
                || self.words.iter().any(|word| format!("{}, {}", item.kind, item.name).contains(word.as_str())))
    }
}

/// What was done of one kind.
#[derive(Clone, Debug, Default)]
struct Row {
    injected: u64,
    lost: Vec<String>,
}

/// Everything that was done, in this run and those before.
#[derive(Debug, Default)]
struct Book {
    rows: BTreeMap<String, Row>,
    done: std::collections::BTreeSet<String>,
    file: Option<File>,
}

impl Book {
    /// With what the file says: `kind`, `name` and number of faults a line, with tabs between.
    fn open(path: Option<&Path>) -> std::io::Result<Self> {
        let mut book = Self::default();
        let Some(path) = path else { return Ok(book) };
        for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
            if let [kind, name, injected] = line.split('\t').collect::<Vec<_>>()[..] {
                book.rows.entry(kind.to_owned()).or_default().injected += injected.parse().unwrap_or(0);
                book.done.insert(format!("{kind}\t{name}"));
            }
        }
        book.file = Some(File::options().create(true).append(true).open(path)?);
        Ok(book)
    }

    fn note(&mut self, kind: String, name: &str, result: Result<u64, String>) -> std::io::Result<()> {
        let row = self.rows.entry(kind.clone()).or_default();
        match result {
            Ok(injected) => {
                row.injected += injected;
                if let Some(file) = &mut self.file {
                    writeln!(file, "{kind}\t{name}\t{injected}")?;
                }
            }
            Err(loss) => row.lost.push(format!("{name}: {loss}")),
        }
        Ok(())
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<bool> {
        writeln!(out, "| kind of fault | injected | lost |\n|---|---|---|")?;
        let (mut injected, mut lost) = (0, 0);
        for (kind, row) in &self.rows {
            let words = if row.lost.is_empty() { "nothing".to_owned() } else { format!("{} cases", row.lost.len()) };
            writeln!(out, "| {kind} | {} | {words} |", row.injected)?;
            (injected, lost) = (injected + row.injected, lost + row.lost.len());
        }
        writeln!(out, "| all | {injected} | {lost} |")?;
        for (kind, row) in &self.rows {
            row.lost.iter().try_for_each(|loss| writeln!(out, "LOST {kind}, {loss}"))?;
        }
        Ok(lost == 0)
    }
}

/// All items of one round; rounds differ by their seeds.
async fn items(plan: &Plan, round: u64) -> Vec<Item> {
    // In the part that always runs what takes longest comes first.
    let mut items = lies::items(plan, round);
    items.extend(disk::items(plan, round));
    items.extend(clock::items(plan, round));
    items.extend(crash::items(plan, round).await);
    items.extend(lies::reorgs(plan, round));
    items
}

async fn work(plan: &Plan) -> std::io::Result<bool> {
    let mut book = Book::open(plan.done.as_deref())?;
    let end = plan.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let is_over = || end.is_some_and(|end| Instant::now() >= end);
    let mut round = 0;
    let mut running = JoinSet::new();
    loop {
        let mut wanted = items(plan, round).await;
        wanted.retain(|item| plan.wants(item) && !book.done.contains(&format!("{}\t{}", item.kind, item.name)));
        for item in wanted {
            if running.len() >= AT_ONCE {
                note(&mut book, &mut running).await?;
            }
            if is_over() {
                break;
            }
            running.spawn(async move {
                // A panic in it is a loss.
                let result = tokio::spawn(item.run).await.map_err(|error| match error.try_into_panic() {
                    Ok(panic) => panic_text(&*panic),
                    Err(error) => error.to_string(),
                });
                (item.kind, item.name, result)
            });
        }
        while !running.is_empty() {
            note(&mut book, &mut running).await?;
        }
        round += 1;
        if end.is_none() || is_over() {
            break;
        }
    }
    book.print(&mut std::io::stdout().lock())
}

type Ended = (String, String, Result<u64, String>);

async fn note(book: &mut Book, running: &mut JoinSet<Ended>) -> std::io::Result<()> {
    let Some(Ok((kind, name, result))) = running.join_next().await else { return Ok(()) };
    book.note(kind, &name, result)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

fn main() -> ExitCode {
    let plan = match Plan::parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(work(&plan))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
