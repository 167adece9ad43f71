//! What `check` finds, and in which function.

use std::{collections::BTreeMap, fmt};

use wasmparser::{KnownCustom, Name, Parser, Payload};

use crate::error::Error;

/// One reason to refuse a program, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The function that it is in, if it is in one.
    pub function: Option<Function>,
    /// What is wrong, at which byte, and what to change.
    pub reason: Error,
}

/// A function of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its index; imported functions come first.
    pub index: u32,
    /// Its name, escaped and shortened, if the program has names.
    pub name: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.function {
            Some(function) => write!(f, "in {function}: {}", self.reason),
            None => self.reason.fmt(f),
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "function {} (`{name}`)", self.index),
            None => write!(f, "function {}", self.index),
        }
    }
}

/// Names come from a stranger and end up on terminals.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_default).collect()
}

/// Gives names to the functions that refusals are in, as far as the program has a section with names.
pub(super) fn name_functions(wasm: &[u8], refusals: &mut [Refusal]) {
    if refusals.iter().all(|refusal| refusal.function.is_none()) {
        return;
    }
    let names = function_names(wasm);
    for function in refusals.iter_mut().filter_map(|refusal| refusal.function.as_mut()) {
        function.name = names.get(&function.index).cloned();
    }
}

/// The names of a program's functions by index, escaped and shortened; none if it has no section with names, or one that cannot
/// be read.
pub fn function_names(wasm: &[u8]) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for payload in Parser::new(0).parse_all(wasm).flatten() {
        let Payload::CustomSection(section) = payload else { continue };
        let KnownCustom::Name(section) = section.as_known() else { continue };
        for name in section.into_iter().flatten() {
            let Name::Function(functions) = name else { continue };
            names.extend(functions.into_iter().flatten().map(|naming| (naming.index, shown(naming.name))));
        }
    }
    names
}
