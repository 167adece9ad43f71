//! One prepared program in three engines, which must agree: the native one, the step machine, and wasmi, which shares no code
//! with either.

use std::{convert::Infallible, fmt};

use conun_vm::{FUEL, Limits, MEMORY, Outcome, START, SYSTEM, machine, native, prepare};
use wasm_encoder::{
    CodeSection, Instruction,
    reencode::{Error, Reencode},
};
use wasmi::{Caller, Engine, Extern, Linker, Module, Store, Val};

/// Fuel for one program: enough for what it does at the end, little enough for those that spin.
const FUEL_LIMIT: u64 = 3_000_000;

/// Bytes of output, which some programs exceed.
const OUTPUT_LIMIT: u64 = 4096;

/// What every program reads.
const INPUT: &[u8] = b"a short input, read in pieces by those programs that ask for it";

/// What a program comes to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    pub(crate) output: Vec<u8>,
    pub(crate) fuel: u64,
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.output.chunks(8).map(|word| format!("{word:02x?}")).collect();
        write!(f, "{:?}, fuel {}, output {} bytes: {}", self.outcome, self.fuel, self.output.len(), words.join(" "))
    }
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Preparation refuses the program.
    Refused,
    /// It ended by itself.
    Ended,
    /// It burned all its fuel.
    OutOfFuel,
    /// It failed otherwise.
    Trapped,
}

/// Checks that the engines agree on a program.
///
/// # Panics
/// If they do not, or if one of them cannot execute it.
pub(crate) fn check(wasm: &[u8]) -> Verdict {
    let limits = Limits { output_bytes: OUTPUT_LIMIT, ..Limits::default() };
    let Ok(prepared) = prepare(wasm, &limits) else { return Verdict::Refused };
    let prepared = prepared.as_bytes();
    let native = in_native(prepared, limits);
    assert_eq!(native, in_machine(prepared), "the native engine, then the step machine");
    assert_eq!(native, in_wasmi(prepared), "the native engine, then wasmi");
    match native.outcome {
        Outcome::Ok { .. } => Verdict::Ended,
        Outcome::Failed if native.fuel == FUEL_LIMIT => Verdict::OutOfFuel,
        Outcome::Failed => Verdict::Trapped,
    }
}

fn in_native(prepared: &[u8], limits: Limits) -> Done {
    let program = native::Program::from_prepared(prepared, limits).expect("a prepared module compiles");
    let task = conun_vm::Task { input: INPUT.into(), fuel_limit: FUEL_LIMIT };
    let done = program.execute(&task).expect("the native engine executes every prepared module");
    Done { outcome: done.outcome, output: done.output, fuel: done.fuel }
}

fn in_machine(prepared: &[u8]) -> Done {
    let done = machine::run(prepared, INPUT, FUEL_LIMIT, OUTPUT_LIMIT);
    let done = done.expect("the step machine executes every prepared module");
    Done { outcome: done.outcome, output: done.output, fuel: done.fuel }
}

/// Why a host function does not return.
#[derive(Debug)]
enum Stop {
    Exit(u32),
    Failed,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl wasmi::errors::HostError for Stop {}

/// Keeps wasmi 2.0.0 from a mistake: it compiles `eqz` and `select` into one instruction that may choose the wrong operand, so
/// that `(select (i32.const 1) (local.get 0) (i32.eqz (local.get 0)))` can be 0. Something that changes nothing comes between.
/// Fuel stays what it is: the module counts its own.
pub(crate) struct Detour;

impl Detour {
    pub(crate) fn of(module: &[u8]) -> Vec<u8> {
        let mut written = wasm_encoder::Module::new();
        Self.parse_core_module(&mut written, wasmparser::Parser::new(0), module).expect("a valid module");
        written.finish()
    }
}

impl Reencode for Detour {
    type Error = Infallible;

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: wasmparser::FunctionBody<'_>,
    ) -> Result<(), Error<Infallible>> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let mut reader = body.get_operators_reader()?;
        let mut after_eqz = false;
        while !reader.eof() {
            let instruction = self.parse_instruction(&mut reader)?;
            if after_eqz && matches!(instruction, Instruction::Select) {
                function.instructions().i32_const(0).i32_or();
            }
            after_eqz = matches!(instruction, Instruction::I32Eqz | Instruction::I64Eqz);
            function.instruction(&instruction);
        }
        code.function(&function);
        Ok(())
    }
}

fn in_wasmi(prepared: &[u8]) -> Done {
    let mut config = wasmi::Config::default();
    // The module bounds its depth itself; the interpreter's own bounds must be beyond.
    config.wasm_multi_memory(true).set_max_recursion_depth(1 << 20).set_max_stack_height(1 << 26);
    let engine = Engine::new(&config);
    let module = Module::new(&engine, Detour::of(prepared)).expect("a prepared module is valid");
    let mut store = Store::new(&engine, Vec::new());
    let instance = linker(&engine).instantiate_and_start(&mut store, &module).expect("segments fit");
    let fuel = instance.get_global(&store, FUEL).expect("a prepared module exports its fuel");
    fuel.set(&mut store, Val::I64(FUEL_LIMIT.cast_signed())).expect("fuel is a mutable i64");
    let start = instance.get_typed_func::<(), ()>(&store, START).expect("a prepared module exports its start");
    let ended = start.call(&mut store, ());
    let left = fuel.get(&store).i64().expect("fuel is an i64");
    let outcome = match ended {
        _ if left < 0 => Outcome::Failed,
        Ok(()) => Outcome::Ok { exit_code: 0 },
        Err(error) => match error.downcast_ref::<Stop>() {
            Some(Stop::Exit(code)) => Outcome::Ok { exit_code: *code },
            Some(Stop::Failed) => Outcome::Failed,
            None => {
                let trap = error.as_trap_code().unwrap_or_else(|| panic!("wasmi gave up: {error}"));
                assert_ne!(trap, wasmi::TrapCode::StackOverflow, "the module bounds its own depth");
                Outcome::Failed
            }
        },
    };
    let output = if outcome == Outcome::Failed { Vec::new() } else { store.into_data() };
    Done { outcome, output, fuel: FUEL_LIMIT - left.max(0).cast_unsigned() }
}

type Host<'a> = Caller<'a, Vec<u8>>;

/// The four imports, from their description in SPEC.md alone.
fn linker(engine: &Engine) -> Linker<Vec<u8>> {
    let mut linker = Linker::new(engine);
    let length = i64::try_from(INPUT.len()).expect("a short input");
    linker.func_wrap("conun", "input_len", move || length).expect("a new name");
    linker
        .func_wrap("conun", "input_read", |mut host: Host<'_>, offset: i64, address: i64, length: i32| {
            let offset = usize::try_from(offset.cast_unsigned()).unwrap_or(usize::MAX).min(INPUT.len());
            let n = (length.cast_unsigned() as usize).min(INPUT.len() - offset);
            range(&mut host, address, n)?.copy_from_slice(&INPUT[offset..offset + n]);
            Ok::<_, wasmi::Error>(i32::try_from(n).expect("a short input"))
        })
        .expect("a new name");
    linker
        .func_wrap("conun", "output_write", |mut host: Host<'_>, address: i64, length: i32| {
            let bytes = range(&mut host, address, length.cast_unsigned() as usize)?.to_vec();
            let output = host.data_mut();
            if (output.len() + bytes.len()) as u64 > OUTPUT_LIMIT {
                return Err(wasmi::Error::host(Stop::Failed));
            }
            output.extend(bytes);
            Ok(())
        })
        .expect("a new name");
    linker
        .func_wrap("conun", "exit", |code: i32| Err::<(), _>(wasmi::Error::host(Stop::Exit(code.cast_unsigned()))))
        .expect("a new name");
    linker
}

fn range<'a>(host: &'a mut Host<'_>, address: i64, length: usize) -> Result<&'a mut [u8], wasmi::Error> {
    let failed = || wasmi::Error::host(Stop::Failed);
    let name = match address >> 32 {
        0 => MEMORY,
        1 => SYSTEM,
        _ => return Err(failed()),
    };
    let start = (address & 0xffff_ffff) as usize;
    let Some(memory) = host.get_export(name).and_then(Extern::into_memory) else {
        // Without a layer there is no second memory, and so none of its bytes.
        return if start == 0 && length == 0 { Ok(&mut []) } else { Err(failed()) };
    };
    memory.data_mut(host).get_mut(start..).and_then(|tail| tail.get_mut(..length)).ok_or_else(failed)
}
