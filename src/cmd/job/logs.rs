//! What providers told of a job's tasks.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use conun_agent::requester::{LogReader, LogRecord, LogState, find_log};
use eyre::eyre;

use crate::{
    context::Context,
    output::{self, printable, short},
};

/// Time between looks for more.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The first digits of the job's id.
    job: String,
    /// Go on with what comes, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Only of this batch.
    #[arg(long, value_name = "NUMBER")]
    batch: Option<u32>,
    /// The requester's folder.  [default: ~/.conun/requester]
    #[arg(long, value_name = "DIR", env = "CONUN_REQUESTER_DIR")]
    data_dir: Option<PathBuf>,
}

/// A record for people, its standard error a line each. A stranger's program has chosen those.
fn text(record: &LogRecord) -> String {
    let LogRecord { batch, task, provider, state } = record;
    let about = format!("batch {batch}, task {task}, {}", short(provider));
    match state {
        LogState::Started => format!("{about}: started"),
        LogState::Ended => format!("{about}: ended; its log is shown once the result is believed"),
        LogState::Full => format!("{about}: the job's log is full, nothing more is kept"),
        LogState::Done { exit_code, fuel, stderr } => {
            let how = match exit_code {
                Some(code) => format!("exit code {code}"),
                None => "failed".to_owned(),
            };
            let lines = stderr.lines().map(|line| format!("\n  | {}", printable(line)));
            format!("{about}: {how}, {fuel} fuel{}", lines.collect::<String>())
        }
    }
}

pub(super) async fn logs(context: &Context, args: LogsArgs) -> eyre::Result<ExitCode> {
    let folder = match args.data_dir {
        Some(dir) => dir,
        None => context.data_home()?.join("requester"),
    };
    let job = find_log(&folder, &args.job).map_err(|text| eyre!(text))?;
    let mut reader = LogReader::new(&folder, job);
    let show = async {
        loop {
            let records = reader.read()?;
            for record in records.iter().filter(|record| args.batch.is_none_or(|batch| batch == record.batch)) {
                if context.json() {
                    output::line(serde_json::to_string(record)?);
                } else {
                    output::line(text(record));
                }
            }
            if !args.follow {
                return eyre::Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        shown = show => shown,
        () = crate::exit::signalled() => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_words_cannot_command_the_terminal_or_pass_for_another_record() {
        let stderr = "fine \"text\" \\ ä\t1\n\u{1b}[2Jgone\r\u{9b}31m\u{7}\u{202e}\nbatch 1, task 2, 0x12: exit code 0"
            .to_owned();
        let state = LogState::Done { exit_code: None, fuel: 5, stderr };
        let record = LogRecord { batch: 0, task: 3, provider: Default::default(), state };
        let shown = text(&record);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 4, "{shown}");
        assert!(lines[0].ends_with(": failed, 5 fuel"), "{shown}");
        assert_eq!(lines[1], "  | fine \"text\" \\ ä\t1");
        assert_eq!(lines[2], "  | \\u{1b}[2Jgone\\r\\u{9b}31m\\u{7}\\u{202e}");
        assert!(lines[3].starts_with("  | batch 1"));
    }
}
