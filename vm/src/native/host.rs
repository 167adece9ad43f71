//! The four imports of a prepared module (section 2 of SPEC.md), as functions of the host.

use bytes::Bytes;
use wasmer::{AsStoreMut, Function, FunctionEnv, FunctionEnvMut, Imports, Memory};

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
    HostMemory(String),
}

/// What the imports work on.
pub(super) struct Host {
    input: Bytes,
    pub(super) output: Vec<u8>,
    output_limit: usize,
    /// The program's, and the WASI layer's if there is one.
    memories: [Option<Memory>; 2],
}

impl Host {
    pub(super) fn new(input: Bytes, output_limit: usize) -> Self {
        Self { input, output: Vec::new(), output_limit, memories: [None, None] }
    }

    /// Tells where the memories are, once there is an instance.
    pub(super) fn attach(&mut self, memories: [Option<Memory>; 2]) {
        self.memories = memories;
    }

    /// The bytes of the input from `offset` on, at most `length`; none past the end.
    fn piece(&self, offset: u64, length: u32) -> Bytes {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.input.len());
        let length = (length as usize).min(self.input.len() - start);
        self.input.slice(start..start + length)
    }
}

/// Runs `access` on the bytes of memory that an address names.
///
/// # Errors
/// [`Stop::Failed`] if the range is not inside its memory.
fn with_range<T>(
    env: &mut FunctionEnvMut<'_, Host>,
    address: i64,
    length: usize,
    access: impl FnOnce(&mut Host, &mut [u8]) -> T,
) -> Result<T, Stop> {
    let address = address.cast_unsigned();
    let (host, store) = env.data_and_store_mut();
    let memory = usize::try_from(address >> MEMORY_BIT).ok().and_then(|index| host.memories.get(index).cloned());
    let Some(memory) = memory.ok_or(Stop::Failed)? else {
        // No layer: a memory of no bytes, in which nothing but nothing at its beginning lies.
        let empty = address & u64::from(u32::MAX) == 0 && length == 0;
        return if empty { Ok(access(host, &mut [])) } else { Err(Stop::Failed) };
    };
    let view = memory.view(&store);
    // SAFETY: the program stands still while its import runs, no other thread has its memory, and the slice is gone before the
    // import returns; so nothing else reads, writes or moves these bytes meanwhile.
    #[expect(unsafe_code, reason = "the safe accessors copy word by word")]
    let bytes = unsafe { view.data_unchecked_mut() };
    let start = (address & u64::from(u32::MAX)) as usize;
    let range = bytes.get_mut(start..).and_then(|tail| tail.get_mut(..length)).ok_or(Stop::Failed)?;
    Ok(access(host, range))
}

fn input_len(env: FunctionEnvMut<'_, Host>) -> i64 {
    (env.data().input.len() as u64).cast_signed()
}

fn input_read(mut env: FunctionEnvMut<'_, Host>, offset: i64, address: i64, length: i32) -> Result<i32, Stop> {
    let piece = env.data().piece(offset.cast_unsigned(), length.cast_unsigned());
    with_range(&mut env, address, piece.len(), |_, range| range.copy_from_slice(&piece))?;
    Ok(u32::try_from(piece.len()).expect("it is at most `length`").cast_signed())
}

fn output_write(mut env: FunctionEnvMut<'_, Host>, address: i64, length: i32) -> Result<(), Stop> {
    with_range(&mut env, address, length.cast_unsigned() as usize, |host, range| {
        if range.len() > host.output_limit - host.output.len() {
            return Err(Stop::Failed);
        }
        host.output.try_reserve(range.len()).map_err(|error| Stop::HostMemory(error.to_string()))?;
        host.output.extend_from_slice(range);
        Ok(())
    })?
}

fn exit(_: FunctionEnvMut<'_, Host>, code: i32) -> Result<(), Stop> {
    Err(Stop::Exit(code.cast_unsigned()))
}

/// The imports of one instance.
pub(super) fn imports(store: &mut impl AsStoreMut, env: &FunctionEnv<Host>) -> Imports {
    let mut imports = Imports::new();
    imports.define(MODULE, "input_len", Function::new_typed_with_env(store, env, input_len));
    imports.define(MODULE, "input_read", Function::new_typed_with_env(store, env, input_read));
    imports.define(MODULE, "output_write", Function::new_typed_with_env(store, env, output_write));
    imports.define(MODULE, "exit", Function::new_typed_with_env(store, env, exit));
    imports
}
