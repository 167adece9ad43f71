//! What is no program, and what the user is told.

use conun_vm::{
    Error, Function, Limits, MAX_BR_TABLE, MAX_FUEL, MAX_FUNCTION_BYTES, MAX_FUNCTIONS, MAX_GLOBALS, MAX_LOCALS,
    MAX_LOCALS_TOGETHER, MAX_NESTING, MAX_OPERANDS, MAX_PROGRAM_BYTES, MOST_REFUSALS, Program, check, prepare,
    refusals,
};

use crate::{command, compile, refusal, task, wasm};

#[test]
fn smallest_command_is_accepted() {
    check(&command("", "")).expect("it exports both and imports nothing");
}

#[test]
fn text_is_told_from_wasm() {
    assert_eq!(refusal(b"  (module (memory 1))"), Error::Text);
    assert_eq!(refusal(b";; a comment\n(module)"), Error::Text);
}

#[test]
fn component_is_told_from_module() {
    let refused = refusal(b"\0asm\x0d\0\x01\0");
    assert_eq!(refused, Error::Component);
    assert!(refused.to_string().contains("wasm32-wasi"), "says what to build instead: {refused}");
}

#[test]
fn other_files_are_no_wasm() {
    for file in [&b""[..], b"\0as", b"\x7fELF\x02\x01\x01\0", b"#!/bin/sh\n", b"\0asm\x02\0\0\0"] {
        assert_eq!(refusal(file), Error::NotWasm);
    }
}

#[test]
fn every_truncation_is_refused() {
    // Without names: a file cut before its section of names would be whole.
    let whole = wasm(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (memory (export "memory") 1) (func (export "_start") (call 0 (i32.const 3))))"#,
    );
    check(&whole).expect("the whole file is accepted");
    for len in 0..whole.len() {
        let refused = refusal(&whole[..len]);
        let expected = match refused {
            Error::NotWasm => len < 8,
            Error::Invalid { .. } | Error::NoStart | Error::NoMemory => len >= 8,
            _ => false,
        };
        assert!(expected, "{len} bytes of {}: {refused}", whole.len());
    }
}

#[test]
fn file_beyond_the_size_cap_is_refused_with_both_sizes() {
    let mut big = command("", "");
    big.resize(MAX_PROGRAM_BYTES + 1, 0);
    let refused = refusal(&big);
    assert_eq!(refused, Error::TooBig { len: MAX_PROGRAM_BYTES + 1 });
    assert!(refused.to_string().contains("67108864"), "{refused}");
}

#[test]
fn library_without_start_is_refused() {
    assert_eq!(refusal(&wasm(r#"(module (memory (export "memory") 1))"#)), Error::NoStart);
    let takes_argument = r#"(module (memory (export "memory") 1) (func (export "_start") (param i32)))"#;
    assert_eq!(refusal(&wasm(takes_argument)), Error::NoStart);
    let not_a_function = r#"(module (memory (export "memory") 1) (global (export "_start") i32 (i32.const 0)))"#;
    assert_eq!(refusal(&wasm(not_a_function)), Error::NoStart);
}

#[test]
fn command_without_exported_memory_is_refused() {
    assert_eq!(refusal(&wasm(r#"(module (memory 1) (func (export "_start")))"#)), Error::NoMemory);
}

#[test]
fn start_section_is_refused() {
    assert!(matches!(refusal(&command("(start $start)", "")), Error::StartSection { offset } if offset > 8));
}

#[test]
fn forbidden_import_is_named() {
    for (module, name) in [
        ("env", "system"),
        ("wasi_snapshot_preview1", "sock_open"),
        ("wasi_unstable", "fd_write"),
        ("wasi:cli/run@0.2.0", "run"),
    ] {
        let refused = refusal(&command(&format!(r#"(import "{module}" "{name}" (func))"#), ""));
        assert_eq!(refused, Error::ForbiddenImport { module: module.to_owned(), name: name.to_owned() });
        assert!(refused.to_string().contains(&format!("`{module}.{name}`")));
    }
}

#[test]
fn import_of_anything_but_functions_is_refused() {
    for what in
        [r#"(import "wasi_snapshot_preview1" "fd_write" (global i32))"#, r#"(import "env" "table" (table 1 funcref))"#]
    {
        assert!(matches!(refusal(&command(what, "")), Error::ForbiddenImport { .. }));
    }
    let memory = r#"(module (import "env" "memory" (memory 1)) (export "memory" (memory 0)) (func (export "_start")))"#;
    assert!(matches!(refusal(&wasm(memory)), Error::ForbiddenImport { .. }));
}

#[test]
fn control_characters_in_import_names_are_escaped_and_cut() {
    let long = "x".repeat(500);
    let refused = refusal(&command(&format!(r#"(import "\1b[2J" "{long}" (func))"#), ""));
    let sentence = refused.to_string();
    assert!(sentence.contains(r"\u{1b}[2J") && !sentence.contains('\u{1b}'), "{sentence}");
    assert!(sentence.len() < 300, "{sentence}");
}

#[test]
fn wasi_function_with_another_signature_is_refused_with_both() {
    let refused =
        refusal(&command(r#"(import "wasi_snapshot_preview1" "fd_close" (func (param i64) (result i32)))"#, ""));
    assert_eq!(
        refused,
        Error::ImportType {
            module: "wasi_snapshot_preview1",
            name: "fd_close",
            found: "(i64) -> (i32)".to_owned(),
            expected: "(i32) -> (i32)".to_owned()
        }
    );
}

#[test]
fn features_outside_the_profile_are_refused_with_the_flag_that_avoids_them() {
    let cases = [
        ("", "(drop (v128.const i32x4 0 0 0 0))", "msimd128"),
        ("", "(drop (i32x4.relaxed_trunc_f32x4_s (v128.const i32x4 0 0 0 0)))", "msimd128"),
        ("", "(drop (i32.atomic.load (i32.const 0)))", "pthread"),
        ("(memory $second 1)", "", "wasm32"),
        ("(func $pair (result i32 i32) (i32.const 1) (i32.const 2))", "", "mmultivalue"),
        ("", "(return_call $start)", "mtail-call"),
        ("(tag $t)", "(throw $t)", "exceptions"),
        ("", "(drop (ref.null func))", "mreference-types"),
        ("(table $t 1 funcref)", "(table.copy $t $t (i32.const 0) (i32.const 0) (i32.const 0))", "statically"),
        ("(global i32 (i32.add (i32.const 1) (i32.const 2)))", "", "mextended-const"),
    ];
    for (around, body, hint) in cases {
        let refused = refusal(&command(around, body));
        let Error::Unsupported { offset, advice, .. } = &refused else {
            panic!("{around} {body}: {refused}");
        };
        assert!(*offset >= 8 && advice.contains(hint), "{around} {body}: {refused}");
    }
    let wide = r#"(module (memory (export "memory") i64 1) (func (export "_start")))"#;
    assert!(matches!(refusal(&wasm(wide)), Error::Unsupported { .. }));
    let shared = r#"(module (memory (export "memory") 1 1 shared) (func (export "_start")))"#;
    assert!(matches!(refusal(&wasm(shared)), Error::Unsupported { advice, .. } if advice.contains("pthread")));
}

#[test]
fn what_every_tool_chain_emits_by_default_is_accepted() {
    let body = "
        (drop (i32.extend8_s (i32.const 200)))
        (drop (i32.trunc_sat_f64_s (f64.const nan)))
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 8))
        (memory.copy (i32.const 8) (i32.const 0) (i32.const 8))
        (memory.init $d (i32.const 0) (i32.const 0) (i32.const 2)) (data.drop $d)
        (global.set $g (i32.const 1))";
    let around = r#"(data $d "ab") (global $g (export "g") (mut i32) (i32.const 0))"#;
    check(&command(around, body)).expect("bulk memory, sign extension, saturating conversion, mutable globals");
}

#[test]
fn invalid_code_is_told_from_unsupported_code() {
    let mut broken = command("", "(drop (i32.const 1))");
    let at = broken.windows(3).position(|w| w == [0x41, 1, 0x1a]).expect("i32.const 1, drop");
    broken[at + 2] = 0x45; // `i32.eqz` leaves a value behind
    assert!(matches!(refusal(&broken), Error::Invalid { offset, .. } if offset as usize > at));
}

#[test]
fn huge_table_is_refused_before_any_instance_pays_for_it() {
    let refused = refusal(&command("(table 10000000 funcref)", ""));
    assert_eq!(refused, Error::TableTooLarge { elements: 10_000_000 });
}

#[test]
fn program_that_begins_with_more_memory_than_the_job_allows_is_refused() {
    let wasm = wasm(r#"(module (memory (export "memory") 3) (func (export "_start")))"#);
    let limits = Limits { memory_bytes: 2 * 65536 + 65535, ..Limits::default() };
    let refused = Program::compile(&wasm, limits).expect_err("three pages do not fit into two");
    assert_eq!(refused, Error::MemoryTooSmall { needs: 3 * 65536, limit: limits.memory_bytes });
    assert!(refused.is_refusal());
}

#[test]
fn limits_beyond_the_highest_are_refused() {
    let wasm = command("", "");
    let memory = Limits { memory_bytes: (4 << 30) + 1, ..Limits::default() };
    assert!(matches!(Program::compile(&wasm, memory), Err(Error::MemoryLimit { .. })));
    let output = Limits { output_bytes: (64 << 20) + 1, ..Limits::default() };
    assert!(matches!(Program::compile(&wasm, output), Err(Error::OutputLimit { .. })));
    let program = compile(&wasm);
    assert_eq!(program.execute(&task(MAX_FUEL + 1)), Err(Error::FuelLimit { asked: MAX_FUEL + 1 }));
    program.execute(&task(MAX_FUEL)).expect("the highest limit itself is fine");
}

#[test]
fn every_refusal_is_told_with_its_function_and_once_for_each_feature() {
    let wasm = wasm(
        r#"(module
        (import "env" "system" (func $system (param i32) (result i32)))
        (memory (export "memory") 1)
        (func $fast (drop (v128.const i32x4 0 0 0 0)) (drop (v128.const i32x4 1 1 1 1)) (return_call $fast))
        (func (export "start") (drop (i32.atomic.load (i32.const 0))))
        (func $plain))"#,
    );
    let found = refusals(&wasm);
    let told: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 5, "{told:#?}");
    assert!(matches!(&found[0].reason, Error::ForbiddenImport { name, .. } if name == "system"), "{}", told[0]);
    assert_eq!(found[1].function, Some(Function { index: 1, name: Some("fast".to_owned()) }));
    assert!(told[1].starts_with("in function 1 (`fast`): ") && told[1].contains("SIMD"), "{}", told[1]);
    assert!(told[2].starts_with("in function 1 (`fast`): ") && told[2].contains("tail calls"), "{}", told[2]);
    assert!(told[3].starts_with("in function 2: ") && told[3].contains("-pthread"), "{}", told[3]);
    assert_eq!(found[4].reason, Error::NoStart);
    let offsets: Vec<_> = found
        .iter()
        .filter_map(|refusal| match refusal.reason {
            Error::Unsupported { offset, .. } => Some(offset),
            _ => None,
        })
        .collect();
    assert!(offsets.is_sorted() && offsets[0] > 8, "{offsets:?}");
    assert_eq!(check(&wasm), Err(found[0].reason.clone()), "`check` says the first");
}

#[test]
fn refusals_behind_what_is_broken_are_not_made_up() {
    let mut wasm = command("(func (drop (v128.const i32x4 0 0 0 0))) (func (drop (i32.const 1)))", "");
    let at = wasm.windows(3).position(|w| w == [0x41, 1, 0x1a]).expect("i32.const 1, drop");
    wasm[at + 2] = 0x45; // `i32.eqz` leaves a value behind
    let found = refusals(&wasm);
    assert!(matches!(&found[0].reason, Error::Unsupported { .. }), "{found:?}");
    assert!(matches!(&found[1].reason, Error::Invalid { .. }) && found.len() == 2, "{found:?}");
}

#[test]
fn refusals_are_so_many_and_no_more() {
    let imports: String = (0..500).map(|n| format!(r#"(import "env" "f{n}" (func))"#)).collect();
    assert_eq!(refusals(&command(&imports, "")).len(), MOST_REFUSALS);
}

#[test]
fn accepted_program_has_no_refusals() {
    assert_eq!(refusals(&command("", "")), []);
}

#[test]
fn segments_that_do_not_fit_are_refused() {
    let fits = r#"(data (i32.const 65534) "ab") (table 2 funcref) (elem (i32.const 1) $start)"#;
    check(&command(fits, "")).expect("the last places of both");
    let data = refusal(&command(r#"(data (i32.const 65535) "ab")"#, ""));
    assert!(matches!(data, Error::SegmentOutside { what: "data", end: 65_537, have: 65_536, .. }), "{data}");
    let element = refusal(&command("(table 2 funcref) (elem (i32.const -1) $start)", ""));
    assert!(matches!(element, Error::SegmentOutside { what: "element", end: 0x1_0000_0000, have: 2, .. }), "{element}");
}

#[test]
fn host_functions_are_accepted_with_their_own_types_only() {
    let imports = r#"
        (import "conun" "input_len" (func (result i64)))
        (import "conun" "input_read" (func (param i64 i64 i32) (result i32)))
        (import "conun" "output_write" (func (param i64 i32)))
        (import "conun" "exit" (func (param i32)))"#;
    check(&command(imports, "")).expect("these are what a task has");
    let other = refusal(&command(r#"(import "conun" "exit" (func (param i64)))"#, ""));
    assert!(matches!(other, Error::ImportType { module: "conun", name: "exit", .. }), "{other}");
    let unknown = refusal(&command(r#"(import "conun" "time" (func (result i64)))"#, ""));
    assert!(matches!(unknown, Error::ForbiddenImport { .. }), "{unknown}");
}

/// What compiling would take without bound: each just beyond its bound, each named.
#[test]
fn compile_bombs_are_refused() {
    let repeat = |text: &str, times: u64| text.repeat(usize::try_from(times).expect("bounds are small"));
    let push_and_drop = |n: u64| format!("{}{}", repeat("(i32.const 0)", n), repeat("drop ", n));
    let nest = |n: u64| format!("{}{}", repeat("block ", n), repeat("end ", n));
    let table = |n: u64| format!("(br_table {} (i32.const 0))", repeat("0 ", n + 1));
    let locals = |n: u64| repeat(&format!("(func {})", format_args!("(local {})", repeat("f64 ", 1 << 14))), n);
    let bombs = [
        ("functions", repeat("(func)", MAX_FUNCTIONS), String::new()),
        ("globals", repeat("(global i32 (i32.const 0))", MAX_GLOBALS + 1), String::new()),
        ("locals of one function", String::new(), format!("(local {})", repeat("i64 ", MAX_LOCALS + 1))),
        ("locals of all functions", locals(1 + MAX_LOCALS_TOGETHER / (1 << 14)), String::new()),
        ("bytes of one function", String::new(), repeat("nop ", MAX_FUNCTION_BYTES)),
        ("operands at once", String::new(), push_and_drop(MAX_OPERANDS + 1)),
        ("constructs within", String::new(), nest(MAX_NESTING)),
        ("targets of one `br_table`", String::new(), table(MAX_BR_TABLE + 1)),
    ];
    for (what, around, body) in bombs {
        let refused = refusal(&command(&around, &body));
        assert!(matches!(refused, Error::TooMany { what: named, .. } if named.starts_with(what)), "{what}: {refused}");
    }
    for (around, body) in [
        (repeat("(func)", MAX_FUNCTIONS - 1), String::new()),
        (String::new(), push_and_drop(MAX_OPERANDS)),
        (String::new(), nest(MAX_NESTING - 1)),
        (String::new(), table(MAX_BR_TABLE)),
    ] {
        let wasm = command(&around, &body);
        prepare(&wasm, &Limits::default()).expect("what is just within the bounds can be prepared");
    }
}

#[test]
fn largest_frame_that_is_accepted_has_room_in_the_step_machine() {
    let repeat = |text: &str, times: u64| text.repeat(usize::try_from(times).expect("bounds are small"));
    let operands =
        format!("{}{}", repeat("(f64.load (i32.const 0))", MAX_OPERANDS), repeat("f64.add ", MAX_OPERANDS - 1));
    let around = format!(
        "(func $f (param {}) (result f64) (local {}) {operands})",
        repeat("i64 ", 1_000),
        repeat("f64 ", MAX_LOCALS)
    );
    let prepared = prepare(&command(&around, ""), &Limits::default()).expect("it is just within the bounds");
    conun_vm::machine::Code::flatten(prepared.as_bytes()).expect("it is far within those of the machine");
}
