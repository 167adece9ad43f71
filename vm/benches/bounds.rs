//! What compiling takes at most: `cargo bench -p conun-vm --bench bounds`.
//!
//! The worst programs within the bounds of `check`, each checked, prepared, rooted and compiled in a process of its own, as
//! the agent's worker does it: seconds and resident memory.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use conun_vm::{Limits, native::Program, prepare, roots};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ElementSection, Elements, ExportKind, ExportSection, Function, FunctionSection,
    InstructionSink, MemArg, MemorySection, MemoryType, Module, RefType, TableSection, TableType, TypeSection, ValType,
};

/// What the agent gives a process that compiles: seconds, bytes.
const DEADLINE: Duration = Duration::from_secs(60);
const MEMORY: u64 = 2 << 30;

/// Bytes of the largest function, nearly.
const FUNCTION: usize = (1 << 20) - 64;

/// A program of these functions, `[i32] -> [i32]`, and a `_start` that does nothing.
fn of(functions: impl IntoIterator<Item = Function>, table: u64) -> Vec<u8> {
    with_types(functions, table, 0, 0)
}

/// The same with so many types more, of so many parameters each.
fn with_types(functions: impl IntoIterator<Item = Function>, table: u64, more: usize, parameters: usize) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([ValType::I32], [ValType::I32]);
    for nth in 0..more {
        let kind = |at: usize| if at < 16 && nth >> at & 1 == 1 { ValType::I64 } else { ValType::I32 };
        types.ty().function((0..parameters).map(kind).collect::<Vec<_>>(), []);
    }
    let (mut kinds, mut code) = (FunctionSection::new(), CodeSection::new());
    let mut start = Function::new([]);
    start.instructions().end();
    kinds.function(0);
    code.function(&start);
    for function in functions {
        kinds.function(1);
        code.function(&function);
    }
    let mut tables = TableSection::new();
    tables.table(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: table,
        maximum: None,
        shared: false,
    });
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut exports = ExportSection::new();
    exports.export("_start", ExportKind::Func, 0).export("memory", ExportKind::Memory, 0);
    let mut elements = ElementSection::new();
    let all = vec![0; usize::try_from(table).expect("a small number")];
    elements.active(None, &ConstExpr::i32_const(0), Elements::Functions(all.into()));
    let mut module = Module::new();
    module.section(&types).section(&kinds).section(&tables).section(&memories).section(&exports);
    module.section(&elements).section(&code);
    module.finish()
}

/// A function whose body `fill` makes; it is told how long it is by now.
fn function(locals: u32, fill: impl FnOnce(&mut InstructionSink<'_>)) -> Function {
    let mut function = Function::new([(locals, ValType::I32)]);
    let mut code = function.instructions();
    fill(&mut code);
    code.local_get(0).end();
    function
}

/// Repeats until the function is as large as it may be, or `most` times.
fn repeated(bytes: usize, most: usize, once: impl Fn(&mut InstructionSink<'_>, u32)) -> Function {
    let count = (FUNCTION / bytes).min(most);
    function(16, |code| (0..count).for_each(|nth| once(code, u32::try_from(nth).expect("a small number"))))
}

fn loops(nesting: u32, locals: u32) -> Function {
    function(locals, |code| {
        for _ in 0..nesting {
            code.loop_(BlockType::Empty);
        }
        for local in 1..=locals {
            code.local_get(local).i32_const(1).i32_add().local_set(local);
        }
        for _ in 0..nesting {
            code.local_get(0).br_if(0).end();
        }
    })
}

fn short_loops(loops: u32) -> Function {
    function(1, |code| {
        for _ in 0..loops {
            code.loop_(BlockType::Empty).local_get(0).local_get(1).i32_add().local_tee(1).br_if(0).end();
        }
        code.local_get(1).local_set(0);
    })
}

/// Locals with values that no compiler knows.
fn load(code: &mut InstructionSink<'_>, locals: u32) {
    for local in 1..=locals {
        code.local_get(0).i32_load(MemArg { offset: (4 * local).into(), align: 2, memory_index: 0 }).local_set(local);
    }
}

fn sum(code: &mut InstructionSink<'_>, locals: u32) {
    code.i32_const(0);
    for local in 1..=locals {
        code.local_get(local).i32_add();
    }
    code.local_set(0);
}

fn table(targets: u32) -> Function {
    function(10, |code| {
        load(code, 10);
        for _ in 0..64 {
            code.block(BlockType::Empty);
        }
        code.block(BlockType::Empty).local_get(0);
        code.br_table((0..targets).map(|nth| nth % 60), 0).end();
        for local in 1..=10 {
            code.local_get(local).i32_const(7).i32_xor().local_set(local);
        }
        for _ in 0..64 {
            code.end();
        }
        sum(code, 10);
    })
}

/// Values in use that no register has room for.
fn changes(rounds: u32, locals: u32) -> Function {
    function(locals, |code| {
        load(code, locals);
        for nth in 0..rounds * locals {
            code.local_get(1 + nth % locals).local_get(1 + nth * 7_919 % locals);
            code.i32_xor().local_set(1 + nth * 31 % locals);
        }
        sum(code, locals);
    })
}

fn arithmetic(bytes: usize) -> Function {
    let mut left = bytes / 9;
    function(16, |code| {
        while left > 0 {
            left -= 1;
            let nth = u32::try_from(left).expect("a small number");
            code.local_get(nth % 16).i32_const(nth.cast_signed()).i32_xor().local_set(nth * 7 % 16);
        }
    })
}

type Make = Box<dyn Fn() -> Vec<u8>>;

fn cases() -> Vec<(&'static str, Make)> {
    let many = |count: usize, make: fn() -> Function| -> Make { Box::new(move || of((0..count).map(|_| make()), 0)) };
    vec![
        ("131,000 functions", many(131_000, || function(0, |_| {}))),
        ("131,000 functions of 128 bytes", many(131_000, || arithmetic(110))),
        ("one function of 1 MiB, straight", many(1, || arithmetic(FUNCTION - 2_000))),
        (
            "one function of 1 MiB, conditions",
            many(1, || {
                repeated(10, usize::MAX, |code, nth| {
                    code.local_get(nth % 16).if_(BlockType::Empty).local_get(1).local_set(nth * 7 % 16).end();
                })
            }),
        ),
        (
            "one function of 1 MiB, exits",
            many(1, || {
                repeated(12, usize::MAX, |code, nth| {
                    code.block(BlockType::Empty)
                        .local_get(nth % 16)
                        .br_if(0)
                        .i32_const(1)
                        .local_set(nth * 7 % 16)
                        .end();
                })
            }),
        ),
        (
            "one function of 1 MiB, loops",
            many(1, || {
                repeated(13, usize::MAX, |code, nth| {
                    code.loop_(BlockType::Empty)
                        .local_get(nth % 16)
                        .local_set(nth * 7 % 16)
                        .local_get(nth % 5)
                        .br_if(0)
                        .end();
                })
            }),
        ),
        (
            "one function of 1 MiB, calls",
            many(1, || {
                repeated(6, usize::MAX, |code, nth| {
                    code.local_get(nth % 16).call(1).local_set(nth * 7 % 16);
                })
            }),
        ),
        (
            "one function of 1 MiB, bulk operations",
            many(1, || {
                repeated(11, usize::MAX, |code, _| {
                    code.local_get(1).local_get(2).local_get(3).memory_copy(0, 0);
                })
            }),
        ),
        (
            "one function, 16,000 operands",
            many(1, || {
                function(0, |code| {
                    (0..16_000).for_each(|nth| {
                        code.local_get(0).i32_const(nth).i32_mul();
                    });
                    (1..16_000).for_each(|_| {
                        code.i32_add();
                    });
                    code.drop();
                })
            }),
        ),
        // The last that are accepted of their kind, nearly.
        ("32 nested loops, 1,000 locals", many(1, || loops(32, 1_000))),
        ("1,000 nested loops, 30 locals", many(1, || loops(1_000, 30))),
        ("8,000 short loops, one local", many(1, || short_loops(8_000))),
        ("a br_table of 10,000, 10 locals", many(1, || table(10_000))),
        ("80,000 changes of 1,000 locals", many(1, || changes(80, 1_000))),
        ("20,000 changes of 4,000 locals, in two functions", many(2, || changes(5, 4_000))),
        ("400 parameters, 650 types", Box::new(|| with_types([], 0, 650, 400))),
        ("256 functions of 16,000 locals", many(256, || function(16_000, |_| {}))),
        ("a table of 2^20", Box::new(|| of([], 1 << 20))),
        ("8 MiB in functions of 1 KiB", many(8 << 10, || arithmetic(1_000))),
        ("16 MiB in functions of 1 KiB", many(16_000, || arithmetic(1_000))),
        ("16 MiB in functions of 64 KiB", many(250, || arithmetic(65_000))),
    ]
}

/// Most resident memory that a process ever had, bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// In the process of one case.
fn compile(wasm: &[u8]) {
    let outcome = prepare(wasm, &Limits::default()).and_then(|prepared| {
        roots::program_root(&prepared)?;
        Program::from_prepared(prepared.as_bytes(), Limits::default())?.artifact()
    });
    match outcome {
        Ok(artifact) => print!("{:.1} MiB of native code", artifact.len() as f64 / f64::from(1 << 20)),
        Err(error) => print!("{error}"),
    }
    std::io::stdout().flush().expect("it can be written");
}

fn main() {
    let cases = cases();
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [first, number] = &args[..]
        && first == "case"
    {
        return compile(&cases[number.parse::<usize>().expect("this program has written it")].1());
    }
    // `cargo test` runs benchmarks, too: without its own flag it is only built.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    println!("seconds, MiB of memory, MiB of wasm");
    let own = std::env::current_exe().expect("this program has a path");
    for (number, (name, make)) in cases.iter().enumerate() {
        if !args.is_empty() && !args.iter().any(|part| name.contains(&**part)) {
            continue;
        }
        let size = make().len() as f64 / f64::from(1 << 20);
        let begin = Instant::now();
        let mut command = Command::new(&own);
        let mut child =
            command.args(["case", &number.to_string()]).stdout(Stdio::piped()).spawn().expect("it can be started");
        let mut peak = 0;
        let stopped = loop {
            peak = peak.max(resident(child.id()));
            if child.try_wait().expect("it is a child").is_some() {
                break "";
            }
            if begin.elapsed() > DEADLINE || peak > MEMORY {
                child.kill().expect("it is a child");
                break "stopped";
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let seconds = begin.elapsed().as_secs_f64();
        let said = child.wait_with_output().expect("it is a child").stdout;
        println!("  {name}: {seconds:.2}, {}, {size:.1}, {}{stopped}", peak >> 20, String::from_utf8_lossy(&said));
    }
}
