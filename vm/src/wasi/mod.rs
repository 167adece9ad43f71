//! WASI preview1, as it is for a task: SPEC.md, section 4, says what a program finds.
//!
//! What answers is a module of its own (`layer.wasm`, from the C files in `layer/`), which becomes part of the program (`merge`). Here
//! are the names and types of the functions that a program may import.
//!
//! Specification: <https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md>

mod layer;
mod merge;

use std::fmt;

pub use merge::merge;

/// The only module that a program may import from.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// The program's memory in a merged module, and the layer's.
const PROGRAM_MEMORY: u32 = 0;
const LAYER_MEMORY: u32 = 1;

/// All functions of preview1 with their parameters; every one answers an i32, save `proc_exit`.
const FUNCTIONS: [(&str, &str); 46] = [
    ("args_get", "i32 i32"),
    ("args_sizes_get", "i32 i32"),
    ("clock_res_get", "i32 i32"),
    ("clock_time_get", "i32 i64 i32"),
    ("environ_get", "i32 i32"),
    ("environ_sizes_get", "i32 i32"),
    ("fd_advise", "i32 i64 i64 i32"),
    ("fd_allocate", "i32 i64 i64"),
    ("fd_close", "i32"),
    ("fd_datasync", "i32"),
    ("fd_fdstat_get", "i32 i32"),
    ("fd_fdstat_set_flags", "i32 i32"),
    ("fd_fdstat_set_rights", "i32 i64 i64"),
    ("fd_filestat_get", "i32 i32"),
    ("fd_filestat_set_size", "i32 i64"),
    ("fd_filestat_set_times", "i32 i64 i64 i32"),
    ("fd_pread", "i32 i32 i32 i64 i32"),
    ("fd_prestat_dir_name", "i32 i32 i32"),
    ("fd_prestat_get", "i32 i32"),
    ("fd_pwrite", "i32 i32 i32 i64 i32"),
    ("fd_read", "i32 i32 i32 i32"),
    ("fd_readdir", "i32 i32 i32 i64 i32"),
    ("fd_renumber", "i32 i32"),
    ("fd_seek", "i32 i64 i32 i32"),
    ("fd_sync", "i32"),
    ("fd_tell", "i32 i32"),
    ("fd_write", "i32 i32 i32 i32"),
    ("path_create_directory", "i32 i32 i32"),
    ("path_filestat_get", "i32 i32 i32 i32 i32"),
    ("path_filestat_set_times", "i32 i32 i32 i32 i64 i64 i32"),
    ("path_link", "i32 i32 i32 i32 i32 i32 i32"),
    ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
    ("path_readlink", "i32 i32 i32 i32 i32 i32"),
    ("path_remove_directory", "i32 i32 i32"),
    ("path_rename", "i32 i32 i32 i32 i32 i32"),
    ("path_symlink", "i32 i32 i32 i32 i32"),
    ("path_unlink_file", "i32 i32 i32"),
    ("poll_oneoff", "i32 i32 i32 i32"),
    ("proc_exit", "i32"),
    ("proc_raise", "i32"),
    ("random_get", "i32 i32"),
    ("sched_yield", ""),
    ("sock_accept", "i32 i32 i32"),
    ("sock_recv", "i32 i32 i32 i32 i32 i32"),
    ("sock_send", "i32 i32 i32 i32 i32"),
    ("sock_shutdown", "i32 i32"),
];

/// Whether a program imports WASI functions, so that its output is an [`Output`](crate::Output). The output of one that does not is
/// bytes without a form. Looks at nothing but the imports.
pub fn uses_wasi(program: &[u8]) -> bool {
    let imports = wasmparser::Parser::new(0).parse_all(program).find_map(|payload| match payload {
        Ok(wasmparser::Payload::ImportSection(imports)) => Some(imports),
        _ => None,
    });
    imports.is_some_and(|imports| imports.into_imports().flatten().any(|import| import.module == MODULE))
}

/// A function's type, as words.
#[derive(PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) params: String,
    pub(crate) results: String,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}) -> ({})", self.params, self.results)
    }
}

/// The preview1 function of that name.
pub(crate) fn signature(name: &str) -> Option<(&'static str, Signature)> {
    let (name, params) = FUNCTIONS.iter().find(|(known, _)| *known == name)?;
    let results = if *name == "proc_exit" { "" } else { "i32" };
    Some((name, Signature { params: (*params).to_owned(), results: results.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::{FUNCTIONS, MODULE, signature};
    use crate::{Input, Limits, Outcome, Program, Task};

    /// What a program gets that calls the function with zeros only.
    fn outcome(name: &str, params: &str) -> Outcome {
        let results = if name == "proc_exit" { "" } else { "(result i32)" };
        let zeros: String = params.split_whitespace().map(|ty| format!("({ty}.const 0)")).collect();
        let drop = if name == "proc_exit" { "" } else { "drop" };
        let wat = format!(
            r#"(module (import "{MODULE}" "{name}" (func $f (param {params}) {results}))
            (memory (export "memory") 1) (func (export "_start") (call $f {zeros}) {drop}))"#
        );
        let wasm = wat::parse_str(wat).expect("a well-formed module");
        let program = Program::compile(&wasm, Limits::default()).expect("every function of preview1 may be imported");
        let input = Input::default().encode().expect("an empty input").into();
        program.execute(&Task { input, fuel_limit: 100_000 }).expect("a small task").outcome
    }

    #[test]
    fn every_function_of_preview1_answers_instead_of_failing() {
        for (name, params) in FUNCTIONS {
            // A signal ends the program.
            let expected = if name == "proc_raise" { Outcome::Failed } else { Outcome::Ok { exit_code: 0 } };
            assert_eq!(outcome(name, params), expected, "{name}");
        }
    }

    #[test]
    fn functions_are_listed_once_and_found_by_their_whole_name() {
        assert!(FUNCTIONS.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(signature("fd_write").is_some_and(|(name, s)| name == "fd_write" && s.results == "i32"));
        assert!(signature("fd_writ").is_none() && signature("").is_none());
    }
}
