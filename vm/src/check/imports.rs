//! What a program may import.

use wasmparser::{FuncType, Import, ValType};

use super::refusal::shown;
use crate::{
    error::Error,
    wasi::{self, MODULE, Signature},
};

/// The module of the four functions that a task has; SPEC.md, section 2.
const TASK: &str = "conun";

/// # Errors
///
/// [`Error::ForbiddenImport`], [`Error::ImportType`].
pub(super) fn check(import: &Import<'_>, ty: &FuncType) -> Result<(), Error> {
    use ValType::{I32, I64};

    let (name, expected) = match (import.module, import.name) {
        (MODULE, name) => wasi::signature(name).ok_or_else(|| forbidden(import))?,
        (TASK, "input_len") => ("input_len", signature(&[], &[I64])),
        (TASK, "input_read") => ("input_read", signature(&[I64, I64, I32], &[I32])),
        (TASK, "output_write") => ("output_write", signature(&[I64, I32], &[])),
        (TASK, "exit") => ("exit", signature(&[I32], &[])),
        _ => return Err(forbidden(import)),
    };
    let own = signature(ty.params(), ty.results());
    if own == expected {
        return Ok(());
    }
    let module = if import.module == TASK { TASK } else { MODULE };
    Err(Error::ImportType { module, name, found: own.to_string(), expected: expected.to_string() })
}

fn signature(params: &[ValType], results: &[ValType]) -> Signature {
    let spaced = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    Signature { params: spaced(params), results: spaced(results) }
}

pub(super) fn forbidden(import: &Import<'_>) -> Error {
    Error::ForbiddenImport { module: shown(import.module), name: shown(import.name) }
}
