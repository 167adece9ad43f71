//! Every cap in one place. Those marked *profile* decide results and are the same on all machines.

use serde::{Deserialize, Serialize};

/// Largest program accepted, in bytes of wasm. *Profile.*
pub const MAX_PROGRAM_BYTES: usize = 64 << 20;

/// Largest output a job may allow a task, in bytes. *Profile.*
pub const MAX_OUTPUT_BYTES: u64 = 64 << 20;

/// Largest linear memory a job may allow a task, in bytes: all that 32-bit pointers reach. *Profile.*
pub const MAX_MEMORY_BYTES: u64 = 4 << 30;

/// Standard error kept from one execution, in bytes; the rest is dropped. It is a log, not part of the result.
pub const MAX_STDERR_BYTES: usize = 64 << 10;

/// Most bytes of arguments, each counted with its terminating NUL, the program's name not counted. *Profile.*
pub const MAX_ARGS_BYTES: usize = 64 << 10;

/// Highest fuel limit of a task. *Profile.*
pub const MAX_FUEL: u64 = 1 << 60;

/// Most elements of the function table: each instance pays for it in host memory before any fuel is burned. *Profile.*
pub const MAX_TABLE_ELEMENTS: u64 = 1 << 20;

/// Most functions of a program. *Profile*, as all that follow: they bound what preparing and compiling a program takes.
pub const MAX_FUNCTIONS: u64 = 1 << 17;

/// Most bytes of the code of all functions.
pub const MAX_CODE_BYTES: u64 = 1 << 24;

/// Most types of functions.
pub const MAX_TYPES: u64 = 1 << 14;

/// Most parameters of all types together.
pub const MAX_PARAMETERS: u64 = 1 << 18;

/// Most globals.
pub const MAX_GLOBALS: u64 = 1 << 14;

/// Most data segments, and most element segments.
pub const MAX_SEGMENTS: u64 = 1 << 14;

/// Largest body of one function, in bytes: compilers take more than twice as long for twice as much.
pub const MAX_FUNCTION_BYTES: u64 = 1 << 20;

/// Largest body of one function once preparation has added fuel, depth and looks at floats, in bytes: engines read no larger ones.
pub const MAX_PREPARED_FUNCTION_BYTES: u64 = 7_000_000;

/// Most declared locals of one function; a declaration of any number takes three bytes.
pub const MAX_LOCALS: u64 = 1 << 14;

/// Most parameters and declared locals of all functions together.
pub const MAX_LOCALS_TOGETHER: u64 = 1 << 22;

/// Most operands that a function may hold at once.
pub const MAX_OPERANDS: u64 = 1 << 14;

/// Most blocks, loops and ifs within one another, the function itself counted.
pub const MAX_NESTING: u64 = 1 << 12;

/// Most targets of one `br_table`, the default not counted.
pub const MAX_BR_TABLE: u64 = 1 << 16;

/// Most effort of compiling one function beyond what its length says, in units of at most some 60 ns; SPEC.md, section 1, has what
/// is counted. Of our example and test programs no function has 3 million.
pub const MAX_EFFORT: u64 = 1 << 28;

/// Most effort of compiling all functions together. None of our example and test programs has 20 million.
pub const MAX_EFFORT_TOGETHER: u64 = 1 << 29;

/// Caps of one job, applied to each of its tasks. They decide results: two replicas must use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Most linear memory, in bytes, rounded down to whole pages of 64 KiB; default 256 MiB, at most
    /// [`MAX_MEMORY_BYTES`]. `memory.grow` beyond it answers -1, which C's `malloc` turns into a null pointer.
    pub memory_bytes: u64,
    /// Most standard output, in bytes; default 16 MiB, at most [`MAX_OUTPUT_BYTES`]. A task that writes more fails.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, output_bytes: 16 << 20 }
    }
}
