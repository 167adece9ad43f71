//! Merged programs in an interpreter with the four imports of a task: what WASI's functions do, without fuel and without
//! compiling. Scripts run in the step machine, too, and must come to the same.

use std::{collections::BTreeMap, fmt::Write as _};

use conun_vm::{Input, Limits, MAX_FUEL, Outcome, Output, machine, merge, prepare};
use wasmi::{Caller, Config, Engine, Extern, Linker, Memory, Module, Store, StoreLimits, StoreLimitsBuilder, Val};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef, ValType};

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Returned,
    Exit(i32),
    Trap,
}

/// What a merged program left behind.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) end: End,
    /// All bytes given to `output_write`.
    pub(crate) blob: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Done {
    pub(crate) fn output(&self) -> Output<'_> {
        Output::decode(&self.blob).expect("a program that ended by itself leaves a well-formed output")
    }

    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(self.output().stdout).expect("the test's program prints text")
    }

    pub(crate) fn errors(&self) -> &str {
        std::str::from_utf8(&self.stderr).expect("the test's program prints text")
    }
}

struct Host {
    input: Vec<u8>,
    output: Vec<u8>,
    limits: StoreLimits,
}

/// The memory and the place in it that an address of a task means.
fn place(caller: &Caller<'_, Host>, address: i64) -> (Memory, usize) {
    let name = if address >> 32 == 0 { "memory" } else { "system" };
    let Some(Extern::Memory(memory)) = caller.get_export(name) else { panic!("no memory `{name}`") };
    (memory, address as u32 as usize)
}

fn trap() -> wasmi::Error {
    wasmi::Error::new("a range is not inside its memory")
}

fn linker(engine: &Engine) -> Linker<Host> {
    let mut linker = Linker::new(engine);
    let mut define = || -> Result<(), wasmi::errors::LinkerError> {
        linker.func_wrap("conun", "input_len", |caller: Caller<'_, Host>| caller.data().input.len() as i64)?;
        linker.func_wrap("conun", "exit", |code: i32| -> Result<(), wasmi::Error> {
            Err(wasmi::Error::i32_exit(code))
        })?;
        linker.func_wrap(
            "conun",
            "input_read",
            |mut caller: Caller<'_, Host>, offset: i64, address: i64, len: i32| {
                let (memory, at) = place(&caller, address);
                let (bytes, host) = memory.data_and_store_mut(&mut caller);
                let to = bytes.get_mut(at..at + len as u32 as usize).ok_or_else(trap)?;
                let rest = host.input.get(offset as u64 as usize..).unwrap_or_default();
                let len = rest.len().min(to.len());
                to[..len].copy_from_slice(&rest[..len]);
                Ok::<_, wasmi::Error>(len as i32)
            },
        )?;
        linker.func_wrap("conun", "output_write", |mut caller: Caller<'_, Host>, address: i64, len: i32| {
            let (memory, at) = place(&caller, address);
            let (bytes, host) = memory.data_and_store_mut(&mut caller);
            let from = bytes.get(at..at + len as u32 as usize).ok_or_else(trap)?;
            host.output.extend_from_slice(from);
            Ok::<_, wasmi::Error>(())
        })?;
        Ok(())
    };
    define().expect("each name is defined once");
    linker
}

/// Merges a program and runs it.
pub(crate) fn run(program: &[u8], input: &Input<'_>) -> Done {
    run_capped(program, &input.encode().expect("the test's input is possible"), u32::MAX)
}

/// Merges a program and runs it on any bytes, with each of the two memories at most so many pages.
pub(crate) fn run_capped(program: &[u8], input: &[u8], pages: u32) -> Done {
    let merged = merge(program).expect("the test's program can be merged");
    let mut config = Config::default();
    config.wasm_multi_memory(true);
    let engine = Engine::new(&config);
    let module = Module::new(&engine, &merged).expect("a merged module is valid");
    let limits = StoreLimitsBuilder::new().memory_size((pages as usize) << 16).build();
    let host = Host { input: input.to_vec(), output: Vec::new(), limits };
    let mut store = Store::new(&engine, host);
    store.limiter(|host| &mut host.limits);
    let instance = linker(&engine).instantiate_and_start(&mut store, &module).expect("only the four are imported");
    let start = instance.get_typed_func::<(), ()>(&store, "_start").expect("a merged program begins with `_start`");
    let end = match start.call(&mut store, ()) {
        Ok(()) => End::Returned,
        Err(error) => error.i32_exit_status().map_or(End::Trap, End::Exit),
    };
    let system = instance.get_memory(&store, "system").expect("the layer's memory");
    let Some(Val::I32(log)) = instance.get_global(&store, "log").map(|log| log.get(&store)) else {
        panic!("the layer says where its log is")
    };
    let bytes = &system.data(&store)[log as usize..];
    let kept = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")) as usize;
    let stderr = bytes[4..4 + kept].to_vec();
    Done { end, blob: std::mem::take(&mut store.data_mut().output), stderr }
}

/// All functions of WASI with their types, as the checked-in layer has them.
pub(crate) fn functions() -> BTreeMap<String, Vec<ValType>> {
    let (mut types, mut functions, mut found, mut imported) = (Vec::new(), Vec::new(), BTreeMap::new(), 0);
    for payload in Parser::new(0).parse_all(include_bytes!("../../src/wasi/layer.wasm")) {
        match payload.expect("the layer is valid") {
            Payload::TypeSection(section) => {
                types.extend(section.into_iter_err_on_gc_types().map(|ty| ty.expect("a function type")));
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    assert!(matches!(import.expect("an import").ty, TypeRef::Func(_)));
                    imported += 1;
                }
            }
            Payload::FunctionSection(section) => functions.extend(section.into_iter().map(|ty| ty.expect("an index"))),
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.expect("an export");
                    if export.kind == ExternalKind::Func && export.name != "finish" && !export.name.contains('.') {
                        let ty = &types[functions[export.index as usize - imported] as usize];
                        found.insert(export.name.to_owned(), ty.params().to_vec());
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// A program that makes a list of calls, each with the errno that it expects, and stops at the first that answers another.
#[derive(Debug)]
pub(crate) struct Script {
    functions: BTreeMap<String, Vec<ValType>>,
    data: String,
    body: String,
    /// Where the next constant goes in the program's memory.
    free: u32,
    calls: Vec<String>,
}

/// Where results go that a script looks at: above all constants.
pub(crate) const RESULT: i64 = 0x8000;

/// A pointer to nowhere, as the program's memory has two pages.
pub(crate) const NOWHERE: i64 = 0x2_0000;

impl Script {
    pub(crate) fn new() -> Self {
        Self { functions: functions(), data: String::new(), body: String::new(), free: 16, calls: Vec::new() }
    }

    /// Puts bytes into the program's memory; their address and length.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> [i64; 2] {
        let at = self.free;
        let text = bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "\\{byte:02x}").expect("a string takes all");
            text
        });
        writeln!(self.data, "(data (i32.const {at}) \"{text}\")").expect("a string takes all");
        self.free = (at + bytes.len() as u32).next_multiple_of(8);
        assert!(i64::from(self.free) <= RESULT, "a script has not more than {RESULT} bytes of constants");
        [at.into(), bytes.len() as i64]
    }

    /// Buffers of a scattered read or write; their address and number.
    pub(crate) fn vectors(&mut self, vectors: &[[i64; 2]]) -> [i64; 2] {
        let words = vectors.iter().flatten().flat_map(|word| (*word as u32).to_le_bytes());
        [self.bytes(&words.collect::<Vec<_>>())[0], vectors.len() as i64]
    }

    /// Calls a function of WASI with everything `args` list.
    pub(crate) fn call(&mut self, expect: i32, name: &str, args: &[&[i64]]) -> &mut Self {
        self.calls.push(format!("{name}{args:?}"));
        let number = self.calls.len() as i32;
        let args: Vec<i64> = args.concat();
        let params = self.functions.get(name).unwrap_or_else(|| panic!("WASI has no {name}")).clone();
        assert_eq!(args.len(), params.len(), "{name}");
        let args = args.iter().zip(&params).fold(String::new(), |text, (arg, ty)| match ty {
            ValType::I32 => text + &format!(" (i32.const {})", *arg as i32),
            _ => text + &format!(" (i64.const {arg})"),
        });
        if name == "proc_exit" {
            writeln!(self.body, "(call $proc_exit{args})").expect("a string takes all");
        } else {
            writeln!(self.body, "(call $expect (call ${name}{args}) (i32.const {expect}) (i32.const {number}))")
                .expect("a string takes all");
        }
        self
    }

    /// Writes bytes of the program's memory to standard output.
    pub(crate) fn show(&mut self, at: i64, len: i64) -> &mut Self {
        writeln!(self.body, "(call $show (i32.const {at}) (i32.const {len}))").expect("a string takes all");
        self
    }

    /// Writes as many bytes to standard output as the word at [`RESULT`] says.
    pub(crate) fn show_read(&mut self, at: i64) -> &mut Self {
        writeln!(self.body, "(call $show (i32.const {at}) (i32.load (i32.const {RESULT})))")
            .expect("a string takes all");
        self
    }

    /// Any instructions.
    pub(crate) fn raw(&mut self, wat: &str) -> &mut Self {
        self.body.push_str(wat);
        self
    }

    pub(crate) fn wasm(&self) -> Vec<u8> {
        let imports = self.functions.iter().fold(String::new(), |mut text, (name, params)| {
            let params = params.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let result = if name == "proc_exit" { "" } else { "(result i32)" };
            writeln!(text, r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {params}) {result}))"#)
                .expect("a string takes all");
            text
        });
        // An unexpected errno ends the program with its number and the call's; standard output then tells nothing.
        let module = format!(
            r#"(module {imports} (memory (export "memory") 2 2) {}
                (func $expect (param i32 i32 i32)
                    (if (i32.ne (local.get 0) (local.get 1)) (then (call $proc_exit
                        (i32.add (i32.mul (local.get 2) (i32.const 1000)) (local.get 0))))))
                (func $show (param i32 i32)
                    (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1))
                    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
                (func (export "_start") {}))"#,
            self.data, self.body
        );
        wat::parse_str(module).expect("a script is a well-formed module")
    }

    pub(crate) fn run(&self, input: &Input<'_>) -> Done {
        let done = run(&self.wasm(), input);
        self.compare(input, &done);
        if let End::Exit(code) = done.end
            && code >= 1000
        {
            panic!("{} answered errno {}", self.calls[code as usize / 1000 - 1], code % 1000);
        }
        done
    }

    /// The same in the step machine, prepared.
    fn compare(&self, input: &Input<'_>, done: &Done) {
        let limits = Limits::default();
        let prepared = prepare(&self.wasm(), &limits).expect("a script is accepted");
        let blob = input.encode().expect("the test's input is possible");
        let steps = machine::run(prepared.as_bytes(), &blob, MAX_FUEL, limits.output_bytes).expect("there is memory");
        let outcome = match done.end {
            End::Returned => Outcome::Ok { exit_code: 0 },
            End::Exit(code) => Outcome::Ok { exit_code: code as u32 },
            End::Trap => Outcome::Failed,
        };
        let output = if outcome == Outcome::Failed { &[] } else { done.blob.as_slice() };
        assert_eq!((steps.outcome, steps.log), (outcome, done.stderr.clone()));
        assert!(steps.output == output, "the step machine has another output");
    }
}
