//! The four imports of a prepared module (section 2 of SPEC.md), as functions of the host.

use std::io;

use wasmer::{AsStoreMut, Function, FunctionEnv, FunctionEnvMut, Imports, Memory};

use crate::task::Source;

/// Module name of the four imports.
const MODULE: &str = "conun";

/// The bit of an address that tells which memory it is in; those below are the place there, those above are zero.
const MEMORY_BIT: u32 = 32;

/// Why an import does not return.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("the program exits with code {0}")]
    Exit(u32),
    #[error("a range that is not inside its memory, or output beyond the limit")]
    Failed,
    #[error("{0}")]
    Stream(#[from] io::Error),
}

/// What a program's output can be written to.
pub(super) trait Sink: io::Write + Send + 'static {}

impl<W: io::Write + Send + 'static> Sink for W {}

/// What the imports work on.
pub(super) struct Host<S, W> {
    input: S,
    /// `None` once the program has ended and the caller has it back.
    pub(super) output: Option<W>,
    /// Bytes that the program may still write.
    output_left: u64,
    /// The program's, and the WASI layer's if there is one.
    memories: [Option<Memory>; 2],
}

impl<S: Source, W: Sink> Host<S, W> {
    pub(super) fn new(input: S, output: W, output_limit: u64) -> Self {
        Self { input, output: Some(output), output_left: output_limit, memories: [None, None] }
    }

    /// Tells where the memories are, once there is an instance.
    pub(super) fn attach(&mut self, memories: [Option<Memory>; 2]) {
        self.memories = memories;
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Stop> {
        // The end, or beyond it.
        if into.is_empty() { Ok(()) } else { Ok(self.input.read_at(offset, into)?) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.output_left = self.output_left.checked_sub(bytes.len() as u64).ok_or(Stop::Failed)?;
        match &mut self.output {
            Some(output) => Ok(output.write_all(bytes)?),
            None => Err(Stop::Failed),
        }
    }
}

/// Runs `access` on the bytes of memory that an address names.
///
/// # Errors
/// [`Stop::Failed`] if the range is not inside its memory.
fn with_range<S: Source, W: Sink>(
    env: &mut FunctionEnvMut<'_, Host<S, W>>,
    address: i64,
    length: usize,
    access: impl FnOnce(&mut Host<S, W>, &mut [u8]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let address = address.cast_unsigned();
    let (host, store) = env.data_and_store_mut();
    let memory = usize::try_from(address >> MEMORY_BIT).ok().and_then(|index| host.memories.get(index).cloned());
    let Some(memory) = memory.ok_or(Stop::Failed)? else {
        // No layer: a memory of no bytes, in which nothing but nothing at its beginning lies.
        let empty = address & u64::from(u32::MAX) == 0 && length == 0;
        return if empty { access(host, &mut []) } else { Err(Stop::Failed) };
    };
    let view = memory.view(&store);
    // SAFETY: the program stands still while its import runs, no other thread has its memory, and the slice is gone before the
    // import returns; so nothing else reads, writes or moves these bytes meanwhile.
    #[expect(unsafe_code, reason = "the safe accessors copy word by word")]
    let bytes = unsafe { view.data_unchecked_mut() };
    let start = (address & u64::from(u32::MAX)) as usize;
    let range = bytes.get_mut(start..).and_then(|tail| tail.get_mut(..length)).ok_or(Stop::Failed)?;
    access(host, range)
}

fn input_len<S: Source, W: Sink>(env: FunctionEnvMut<'_, Host<S, W>>) -> i64 {
    env.data().input.length().cast_signed()
}

fn input_read<S: Source, W: Sink>(
    mut env: FunctionEnvMut<'_, Host<S, W>>,
    offset: i64,
    address: i64,
    length: i32,
) -> Result<i32, Stop> {
    let offset = offset.cast_unsigned();
    let there = env.data().input.length().saturating_sub(offset);
    let length = length.cast_unsigned().min(u32::try_from(there).unwrap_or(u32::MAX));
    with_range(&mut env, address, length as usize, |host, range| host.read(offset, range))?;
    Ok(length.cast_signed())
}

fn output_write<S: Source, W: Sink>(
    mut env: FunctionEnvMut<'_, Host<S, W>>,
    address: i64,
    length: i32,
) -> Result<(), Stop> {
    with_range(&mut env, address, length.cast_unsigned() as usize, |host, range| host.write(range))
}

fn exit<S: Source, W: Sink>(_: FunctionEnvMut<'_, Host<S, W>>, code: i32) -> Result<(), Stop> {
    Err(Stop::Exit(code.cast_unsigned()))
}

/// The imports of one instance.
pub(super) fn imports<S: Source, W: Sink>(store: &mut impl AsStoreMut, env: &FunctionEnv<Host<S, W>>) -> Imports {
    let mut imports = Imports::new();
    imports.define(MODULE, "input_len", Function::new_typed_with_env(store, env, input_len::<S, W>));
    imports.define(MODULE, "input_read", Function::new_typed_with_env(store, env, input_read::<S, W>));
    imports.define(MODULE, "output_write", Function::new_typed_with_env(store, env, output_write::<S, W>));
    imports.define(MODULE, "exit", Function::new_typed_with_env(store, env, exit::<S, W>));
    imports
}
