//! Parts of WebAssembly by name, and what to change in a build that uses one that is not accepted.

use wasmparser::{BlockType, Operator, ValType};

/// A part of WebAssembly that is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Feature {
    Simd,
    Threads,
    MultiValue,
    ReferenceTypes,
    TableChanges,
    TailCalls,
    Exceptions,
    Memory64,
    MultiMemory,
    ExtendedConst,
    Other(&'static str),
}

impl Feature {
    /// As the specification calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Simd => "SIMD",
            Self::Threads => "threads",
            Self::MultiValue => "multi-value: several results, or blocks with parameters",
            Self::ReferenceTypes => "reference types",
            Self::TableChanges => "changes of a table while the program runs",
            Self::TailCalls => "tail calls",
            Self::Exceptions => "exceptions",
            Self::Memory64 => "memory64",
            Self::MultiMemory => "several memories",
            Self::ExtendedConst => "computed initial values (extended constants)",
            Self::Other(name) => name,
        }
    }

    /// The flag that turns it off.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Simd => "build without `-msimd128` and `-mrelaxed-simd` (Rust: `-C target-feature=-simd128`)",
            Self::Threads => "build without `-pthread`, `-matomics` and `--shared-memory`: a task has one thread",
            Self::MultiValue => "build without `-mmultivalue` and `-Xclang -target-abi -Xclang experimental-mv`",
            Self::ReferenceTypes => "build without `-mreference-types`",
            Self::TableChanges => "link statically, without dynamic loading of code",
            Self::TailCalls => "build without `-mtail-call`",
            Self::Exceptions => "build with `-fno-exceptions` and without `-fwasm-exceptions` (Rust: `-C panic=abort`)",
            Self::Memory64 => "build for `wasm32`, not `wasm64`",
            Self::MultiMemory => "build for plain wasm32, without `-mmultimemory`",
            Self::ExtendedConst => "build without `-mextended-const`, and do not link as position-independent code",
            Self::Other(_) => "build for plain wasm32 (`-mcpu=lime1` or `-mcpu=mvp` in clang and zig)",
        }
    }

    /// Whether a value's type belongs to it.
    pub(super) fn of_type(ty: ValType) -> Option<Self> {
        match ty {
            ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64 => None,
            ValType::V128 => Some(Self::Simd),
            ValType::Ref(_) => Some(Self::ReferenceTypes),
        }
    }

    /// The part of WebAssembly outside the profile that an instruction belongs to.
    pub(super) fn of(operator: &Operator<'_>) -> Option<Self> {
        use Operator as O;
        match operator {
            O::Block { blockty } | O::Loop { blockty } | O::If { blockty } => match blockty {
                BlockType::Empty => None,
                BlockType::Type(ty) => Self::of_type(*ty),
                BlockType::FuncType(_) => Some(Self::MultiValue),
            },
            O::TableInit { .. } | O::TableCopy { .. } | O::ElemDrop { .. } => Some(Self::TableChanges),
            O::TableGrow { .. } | O::TableSet { .. } | O::TableFill { .. } => Some(Self::TableChanges),
            _ => match proposal(operator) {
                "mvp" | "sign_extension" | "saturating_float_to_int" | "bulk_memory" => None,
                "simd" | "relaxed_simd" => Some(Self::Simd),
                "threads" | "shared_everything_threads" => Some(Self::Threads),
                "reference_types" | "function_references" => Some(Self::ReferenceTypes),
                "tail_call" => Some(Self::TailCalls),
                "exceptions" | "legacy_exceptions" => Some(Self::Exceptions),
                other => Some(Self::Other(other)),
            },
        }
    }
}

/// Name of the proposal that brought an instruction, as `wasmparser` has it.
fn proposal(operator: &Operator<'_>) -> &'static str {
    macro_rules! name {
        ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*) )*) => {
            match operator {
                $( Operator::$op { .. } => stringify!($proposal), )*
                _ => "an instruction of the future",
            }
        };
    }
    wasmparser::for_each_operator!(name)
}
