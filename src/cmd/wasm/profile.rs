//! Which functions of a program the work is in.

use conun_vm::Prepared;
use serde::Serialize;

use crate::output::Table;

/// Rows that a person is shown.
const ROWS: usize = 20;

/// One function's part of the work.
#[derive(Serialize)]
pub(crate) struct Entry {
    /// Its name in the program's name section, or `function N`; what preparation and the WASI layer added is one row.
    function: String,
    /// Steps of the step machine spent in the function itself, not in what it calls.
    steps: u64,
    /// Of all steps.
    share: f64,
}

/// Sorts what the machine counted, most first. `steps` is by function of the prepared module.
pub(crate) fn of(steps: &[u64], wasm: &[u8], prepared: &Prepared) -> Vec<Entry> {
    let total: u64 = steps.iter().sum();
    let names = conun_vm::function_names(wasm);
    let mut added = 0;
    let mut entries: Vec<(String, u64)> = Vec::new();
    for (index, &steps) in steps.iter().enumerate().filter(|&(_, &steps)| steps != 0) {
        match u32::try_from(index).ok().and_then(|index| prepared.origin(index)) {
            Some(index) => {
                let name = names.get(&index).map_or_else(|| format!("function {index}"), Clone::clone);
                entries.push((name, steps));
            }
            None => added += steps,
        }
    }
    if added != 0 {
        entries.push(("(WASI, and what preparation added)".to_owned(), added));
    }
    entries.sort_by_key(|&(_, steps)| std::cmp::Reverse(steps));
    let entry = |(function, steps)| Entry { function, steps, share: steps as f64 / total as f64 };
    entries.into_iter().map(entry).collect()
}

/// The first rows, for a person.
pub(crate) fn table(entries: &[Entry]) -> String {
    let mut table = Table::new(["function", "steps", "share"]);
    for Entry { function, steps, share } in entries.iter().take(ROWS) {
        table.row([function.clone(), steps.to_string(), format!("{:.1} %", share * 100.0)]);
    }
    table.to_string()
}
