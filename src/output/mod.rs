//! Standard output carries the result and nothing else; all the rest goes to standard error.

mod board;
mod table;
mod units;

use std::io::{IsTerminal, Write};

use serde::Serialize;
use tracing_subscriber::EnvFilter;

pub(crate) use board::Board;
pub(crate) use table::Table;
pub(crate) use units::{date, parse_tokens, short, tokens};

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON document a line.
    Json,
}

/// Logs to standard error: warnings, or what `RUST_LOG` asks for.
pub(crate) fn init_logging(format: LogFormat) {
    // A provider's troubles are told to people anyway.
    let told = if format == LogFormat::Text { ",conun::trouble=off" } else { "" };
    // A store that is closed ends its sweeper with an error.
    let quiet = "warn,iroh=error,iroh::socket=off,iroh_blobs::store::gc=off,noq=error";
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{quiet}{told}")));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            logs.with_ansi(colour).init();
        }
        LogFormat::Json => logs.json().init(),
    }
}

/// Prints the result: `value` as JSON, or the text.
pub(crate) fn result<T: Serialize>(json: bool, value: &T, text: impl FnOnce(&T) -> String) -> eyre::Result<()> {
    let text = if json { serde_json::to_string_pretty(value)? } else { text(value).trim_end().to_owned() };
    if text.is_empty() { Ok(()) } else { bytes(format!("{text}\n").as_bytes()) }
}

/// Prints bytes that are the result, as they are. Whoever reads no further, as `head` does, has had what it wanted.
pub(crate) fn bytes(bytes: &[u8]) -> eyre::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Text of a stranger's on one line of a terminal: what is not plainly printed is escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' | '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// Prints one record of a stream of results.
pub(crate) fn line(record: impl std::fmt::Display) {
    // Nobody listens any more if standard output is closed.
    let _ = writeln!(std::io::stdout(), "{record}");
}

/// Tells the user something that is not the result.
pub(crate) fn note(text: impl std::fmt::Display) {
    // Nobody listens any more if standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints why the command failed.
pub(crate) fn error(json: bool, report: &eyre::Report) {
    // A source whose text its parent already carries says nothing new.
    let mut text = report.to_string();
    for cause in report.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    if json {
        let _ = writeln!(std::io::stdout(), "{}", serde_json::json!({ "error": text }));
    }
    note(format_args!("error: {text}"));
}
