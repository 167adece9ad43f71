//! What is short and would take a compiler long: the largest program accepted, the smallest refused.

use conun_vm::{
    Error, MAX_CODE_BYTES, MAX_EFFORT, MAX_EFFORT_TOGETHER, MAX_PARAMETERS, MAX_PREPARED_FUNCTION_BYTES,
    MAX_TABLE_ELEMENTS, check, refusals,
};
use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, InstructionSink, MemorySection,
    MemoryType, Module, RefType, TableSection, TableType, TypeSection, ValType,
};

/// A program of these functions, `[i32] -> []`, and a `_start` that does nothing; its types have so many parameters more.
fn program<'f>(functions: impl IntoIterator<Item = &'f Function>, parameters: u64) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([ValType::I32], []);
    let mut left = usize::try_from(parameters).expect("bounds are small");
    while left > 0 {
        let some = left.min(1_000);
        types.ty().function(vec![ValType::I32; some], []);
        left -= some;
    }
    let (mut kinds, mut code) = (FunctionSection::new(), CodeSection::new());
    let mut start = Function::new([]);
    start.instructions().end();
    kinds.function(0);
    code.function(&start);
    for function in functions {
        kinds.function(1);
        code.function(function);
    }
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut exports = ExportSection::new();
    exports.export("_start", ExportKind::Func, 0).export("memory", ExportKind::Memory, 0);
    let mut module = Module::new();
    module.section(&types).section(&kinds).section(&memories).section(&exports).section(&code);
    module.finish()
}

/// A function with locals that all have values when `fill` begins, and that are all read when it has ended.
fn function(locals: u32, fill: impl FnOnce(&mut InstructionSink<'_>)) -> Function {
    let mut function = Function::new([(locals, ValType::I32)]);
    let mut code = function.instructions();
    for local in 1..=locals {
        code.local_get(0).local_set(local);
    }
    fill(&mut code);
    for local in 1..=locals {
        code.local_get(local).drop();
    }
    code.end();
    function
}

fn change(code: &mut InstructionSink<'_>, locals: u32) {
    for local in 1..=locals {
        code.local_get(local).i32_const(1).i32_add().local_set(local);
    }
}

fn nested_loops(locals: u32) -> Function {
    function(locals, |code| {
        (0..64).for_each(|_| {
            code.loop_(BlockType::Empty);
        });
        change(code, locals);
        (0..64).for_each(|_| {
            code.local_get(0).br_if(0).end();
        });
    })
}

fn short_loops(loops: u32) -> Function {
    function(16, |code| {
        for nth in 0..loops {
            code.loop_(BlockType::Empty).local_get(0).local_set(1 + nth % 16).local_get(0).br_if(0).end();
        }
    })
}

fn long_table(targets: u32) -> Function {
    function(10, |code| {
        (0..61).for_each(|_| {
            code.block(BlockType::Empty);
        });
        change(code, 10);
        code.local_get(0).br_table((0..targets).map(|nth| nth % 60), 0).end();
        (0..60).for_each(|_| {
            change(code, 10);
            code.end();
        });
    })
}

/// Without any control.
fn many_locals(locals: u32) -> Function {
    function(locals, |code| (0..20).for_each(|_| change(code, locals)))
}

fn refusal_of(wasm: &[u8]) -> Option<Error> {
    check(wasm).err()
}

type Make = fn(u32) -> Function;

/// The greatest size with which the function is accepted.
fn greatest(make: Make, most: u32) -> u32 {
    let (mut accepted, mut refused) = (1, most);
    assert!(refusal_of(&program([&make(refused)], 0)).is_some(), "{most} are too many");
    while refused - accepted > 1 {
        let middle = accepted.midpoint(refused);
        if refusal_of(&program([&make(middle)], 0)).is_none() {
            accepted = middle;
        } else {
            refused = middle;
        }
    }
    accepted
}

#[test]
fn functions_that_are_short_but_hard_to_compile_are_refused_from_the_bound_on() {
    let shapes: [(Make, u32); 4] =
        [(nested_loops, 1_000), (short_loops, 60_000), (long_table, 60_000), (many_locals, 5_000)];
    for (make, most) in shapes {
        let size = greatest(make, most);
        let refused = refusal_of(&program([&make(size + 1)], 0)).expect("one more is refused");
        let Error::TooHard { offset, effort, together } = refused else { panic!("{size}: {refused}") };
        // The step from one size to the next is small, so that the bound is between the two.
        assert!(effort > MAX_EFFORT && effort < MAX_EFFORT + MAX_EFFORT / 50, "{size}: {effort}");
        assert_eq!(together, effort);
        assert!(offset > 8, "{offset}");
    }
}

#[test]
fn refusal_says_which_function_is_too_hard_and_what_to_do() {
    let wasm = program([&short_loops(1), &nested_loops(1_000)], 0);
    let told = refusals(&wasm);
    assert_eq!(told.len(), 1);
    let words = told[0].to_string();
    assert!(words.starts_with("in function 2: the function whose body is at byte "), "{words}");
    for part in ["split it", "fewer local variables", "`-O1`", &format!("at most {MAX_EFFORT} is accepted")] {
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn program_of_many_hard_functions_is_refused_and_the_hardest_named() {
    let hard = nested_loops(greatest(nested_loops, 1_000));
    check(&program([&hard, &short_loops(1)], 0)).expect("each is just within the bound");
    let less = nested_loops(greatest(nested_loops, 1_000) - 1);
    let told = refusals(&program([&less, &less, &hard, &less, &less], 0));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].function.as_ref().map(|function| function.index), Some(3));
    let Error::TooHard { effort, together, .. } = told[0].reason else { panic!("{}", told[0]) };
    assert!(effort <= MAX_EFFORT && together > MAX_EFFORT_TOGETHER, "{}", told[0]);
}

#[test]
fn effort_is_of_what_is_live_and_not_of_what_there_is() {
    // As many loops and locals as are refused above, but no value goes from one loop to another.
    let apart = function(0, |_| {});
    let mut many = Function::new([(1_000, ValType::I32)]);
    let mut code = many.instructions();
    for nth in 0..1_000 {
        code.loop_(BlockType::Empty).local_get(0).local_tee(1 + nth).br_if(0).end();
    }
    code.end();
    check(&program([&apart, &many], 0)).expect("two values are live at a time");
}

#[test]
fn unfinished_or_foreign_constructs_are_refused_without_a_look_at_their_effort() {
    let mut tried = Function::new([]);
    tried.instructions().try_table(BlockType::Empty, []).end().end();
    assert!(matches!(refusal_of(&program([&tried], 0)), Some(Error::Unsupported { .. })));
}

#[test]
fn parameters_of_types_are_bounded() {
    check(&program([], MAX_PARAMETERS - 1)).expect("one is the functions'");
    let refused = refusal_of(&program([], MAX_PARAMETERS)).expect("one more");
    assert!(matches!(refused, Error::TooMany { what: "parameters of all types", .. }), "{refused}");
}

#[test]
fn code_is_bounded() {
    let mut function = Function::new([]);
    (0..(MAX_CODE_BYTES >> 5) - 10).for_each(|_| {
        function.instructions().nop();
    });
    function.instructions().end();
    check(&program([&function; 31], 0)).expect("it is a little less");
    let refused = refusal_of(&program([&function; 33], 0)).expect("it is a little more");
    assert!(matches!(refused, Error::TooMany { what: "bytes of code", .. }), "{refused}");
}

#[test]
fn what_engines_have_no_room_for_once_it_is_prepared_is_refused_by_check() {
    // Others than calls get to it, so that its callers look at their fuel behind each call.
    let mut called = Function::new([]);
    called.instructions().nop().end();
    let module = |functions: usize, calls: usize, elements: u64| {
        let mut calling = Function::new([]);
        calling.instructions().loop_(BlockType::Empty).i32_const(0).br_if(0).end();
        calling.raw([0x10, 0].repeat(calls));
        calling.instructions().end();
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let (mut kinds, mut code) = (FunctionSection::new(), CodeSection::new());
        for function in std::iter::once(&called).chain(std::iter::repeat_n(&calling, functions)) {
            kinds.function(0);
            code.function(function);
        }
        let mut tables = TableSection::new();
        let element_type = RefType::FUNCREF;
        tables.table(TableType { element_type, table64: false, minimum: elements, maximum: None, shared: false });
        let mut memories = MemorySection::new();
        memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
        let mut exports = ExportSection::new();
        exports.export("_start", ExportKind::Func, 0).export("memory", ExportKind::Memory, 0);
        let mut module = Module::new();
        module.section(&types).section(&kinds).section(&tables).section(&memories).section(&exports).section(&code);
        module.finish()
    };
    let refused = |wasm: &[u8]| check(wasm).expect_err("there is no room for it");
    // Too long for the engines' parser, once it is prepared.
    let long = refused(&module(1, 520_000, 0));
    assert!(matches!(long, Error::TooMany { most: MAX_PREPARED_FUNCTION_BYTES, .. }), "{long}");
    // Four instructions of the step machine for each call, and one for each element of the table.
    let many = refused(&module(64, 128_000, MAX_TABLE_ELEMENTS));
    assert!(
        matches!(many, Error::TooMany { most: 0x200_0000, .. }) && many.to_string().contains("step machine"),
        "{many}"
    );
}
