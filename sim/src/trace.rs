//! What happened, as one hash over everything and as the last lines in words.

use std::{
    collections::VecDeque,
    fmt::{Display, Write as _},
};

use alloy::primitives::B256;

/// Lines kept for a violation's report.
const KEPT: usize = 20_000;

/// Lines of them that are shown.
const SHOWN: usize = 40;

/// The trace of a run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    lines: VecDeque<String>,
    /// All lines, if somebody wants them.
    whole: Option<String>,
    steps: u64,
    text: String,
}

impl Trace {
    /// Notes what happened at millisecond `now`.
    pub(crate) fn note(&mut self, now: u64, who: impl Display, what: impl Display) {
        self.steps += 1;
        self.text.clear();
        let _ = write!(self.text, "{:>6} {:>9}.{:03} {who} {what}", self.steps, now / 1_000, now % 1_000);
        self.hasher.update(self.text.as_bytes());
        self.hasher.update(b"\n");
        if let Some(whole) = &mut self.whole {
            whole.push_str(&self.text);
            whole.push('\n');
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(self.text.clone());
    }

    /// Keeps all lines from now on.
    pub(crate) fn keep(&mut self) {
        self.whole = Some(String::new());
    }

    /// All lines that were kept.
    pub(crate) fn take(&mut self) -> String {
        self.whole.take().unwrap_or_default()
    }

    /// Steps so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Hash over all steps.
    pub(crate) fn hash(&self) -> B256 {
        (*self.hasher.finalize().as_bytes()).into()
    }

    /// The last steps in which one of `words` occurs, or simply the last ones if there are none.
    pub(crate) fn about(&self, words: &[String]) -> Vec<String> {
        let mentions = |line: &&String| words.is_empty() || words.iter().any(|word| line.contains(word));
        let mut found: Vec<_> = self.lines.iter().rev().filter(mentions).take(SHOWN).cloned().collect();
        found.reverse();
        found
    }
}
