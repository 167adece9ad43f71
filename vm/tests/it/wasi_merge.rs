//! The merger: what becomes of a program, whatever it does.

use std::{path::Path, process::Command};

use conun_vm::{Input, merge};
use wasmparser::{ExternalKind, Parser, Payload, Validator, WasmFeatures};

use crate::{
    WASI, command,
    wasi_host::{End, Script, functions, run, run_capped},
    wasm, write,
};

const FEATURES: WasmFeatures = WasmFeatures::MVP
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::MULTI_MEMORY);

fn merged(program: &[u8]) -> Vec<u8> {
    let merged = merge(program).expect("the test's program can be merged");
    Validator::new_with_features(FEATURES).validate_all(&merged).expect("a merged module is valid");
    merged
}

/// Imports, exports and number of functions with a body.
fn outline(wasm: &[u8]) -> (Vec<String>, Vec<(String, ExternalKind)>, usize) {
    let (mut imports, mut exports, mut bodies) = (Vec::new(), Vec::new(), 0);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.expect("a valid module") {
            Payload::ImportSection(section) => {
                imports = section
                    .into_imports()
                    .map(|import| import.map(|import| format!("{}.{}", import.module, import.name)).expect("an import"))
                    .collect();
            }
            Payload::ExportSection(section) => {
                exports = section
                    .into_iter()
                    .map(|export| export.map(|export| (export.name.to_owned(), export.kind)).expect("an export"))
                    .collect();
            }
            Payload::CodeSectionStart { count, .. } => bodies = count as usize,
            _ => {}
        }
    }
    (imports, exports, bodies)
}

#[test]
fn a_merged_program_imports_only_the_four_and_exports_what_engines_need() {
    let (imports, exports, _) = outline(&merged(&Script::new().wasm()));
    let mut four = imports.clone();
    four.sort();
    assert_eq!(four, ["conun.exit", "conun.input_read", "conun.output_write"]);
    let exports: Vec<_> = exports.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    assert_eq!(
        exports,
        [
            ("_start", ExternalKind::Func),
            ("memory", ExternalKind::Memory),
            ("system", ExternalKind::Memory),
            ("log", ExternalKind::Global)
        ]
    );
}

#[test]
fn what_a_program_does_not_use_is_left_out() {
    let (imports, _, all) = outline(&merged(&Script::new().wasm()));
    let yielding = r#"(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))"#;
    let (few_imports, _, few) = outline(&merged(&command(yielding, "(drop (call $yield))")));
    assert!(few * 3 < all, "{few} of {all} functions");
    assert!(!few_imports.contains(&"conun.exit".to_owned()) && imports.len() > few_imports.len());
}

#[test]
fn a_program_without_wasi_stays_as_it_is() {
    let program = command(r#"(import "conun" "exit" (func $exit (param i32)))"#, "(call $exit (i32.const 3))");
    assert_eq!(merge(&program).expect("it can be merged"), program);
}

#[test]
fn a_return_from_start_ends_like_exit_0() {
    let body = write(1, 0, 3);
    let data = r#"(data (i32.const 0) "abc")"#;
    let returned = run(&command(&format!("{WASI}{data}"), &body), &Input::default());
    let exited = run(
        &command(&format!("{WASI}{data}"), &format!("{body}(call $proc_exit (i32.const 0)) unreachable")),
        &Input::default(),
    );
    assert_eq!((returned.end, exited.end), (End::Returned, End::Exit(0)));
    assert_eq!(returned.blob, exited.blob);
    assert_eq!(returned.stdout(), "abc");
}

#[test]
fn imports_called_through_a_table_are_the_layers() {
    let program = wasm(
        r#"(module
            (type $t (func (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (table 4 funcref) (elem (i32.const 1) $double $sizes $fd_write)
            (global $g (mut i32) (i32.const 40))
            (func $double (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
            (func (export "_start")
                (drop (call_indirect (type $t) (i32.const 100) (i32.const 104) (i32.const 2)))
                (i32.store (i32.const 108) (call_indirect (param i32) (result i32) (global.get $g) (i32.const 1)))
                (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 12))
                (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
    );
    let done = run(&program, &Input { args: vec!["x"], ..Input::default() });
    let words: Vec<u32> =
        done.output().stdout.chunks(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect();
    assert_eq!(words, [2, 10, 80]);
}

#[test]
fn passive_segments_keep_their_numbers() {
    let program = command(
        &format!(r#"{WASI} (data (i32.const 8) "-") (data $late "later")"#),
        &format!("(memory.init $late (i32.const 9) (i32.const 0) (i32.const 5)){}", write(1, 8, 6)),
    );
    assert_eq!(run(&program, &Input::default()).stdout(), "-later");
}

/// A program with both kinds of imports: its own output is standard output, its own exit writes files and footer.
#[test]
fn own_use_of_the_four_fits_in_with_wasi() {
    let program = command(
        &format!(
            r#"{WASI}
            (import "conun" "input_len" (func $input_len (result i64)))
            (import "conun" "input_read" (func $input_read (param i64 i64 i32) (result i32)))
            (import "conun" "output_write" (func $output_write (param i64 i32)))
            (import "conun" "exit" (func $exit (param i32)))"#
        ),
        &format!(
            "(drop (call $input_read (i64.const 0) (i64.const 64) (i32.const 8)))
             (call $output_write (i64.const 64) (i32.const 8)) {}
             (call $exit (i32.wrap_i64 (call $input_len)))",
            write(1, 70, 2)
        ),
    );
    let done = run(&program, &Input::default());
    assert_eq!((done.end, done.stdout()), (End::Exit(72 + 8), "CONUNIN1N1"));
    assert_eq!(done.output().files, []);
}

#[test]
fn a_program_cannot_reach_the_layers_memory() {
    for call in [
        "(drop (call $input_read (i64.const 0) (i64.const 0x100000000) (i32.const 1)))",
        "(call $output_write (i64.const 0x100000000) (i32.const 1))",
    ] {
        let program = command(
            &format!(
                r#"{WASI}
                (import "conun" "input_read" (func $input_read (param i64 i64 i32) (result i32)))
                (import "conun" "output_write" (func $output_write (param i64 i32)))"#
            ),
            call,
        );
        assert_eq!(run(&program, &Input::default()).end, End::Trap, "{call}");
    }
}

#[test]
fn names_of_functions_stay_and_the_layers_are_added() {
    let program = command(&format!("{WASI} (func $mine)"), "(call $mine)");
    let names: Vec<String> = Parser::new(0)
        .parse_all(&merged(&program))
        .filter_map(|payload| match payload.expect("a valid module") {
            Payload::CustomSection(section) => match section.as_known() {
                wasmparser::KnownCustom::Name(names) => Some(names),
                _ => None,
            },
            _ => None,
        })
        .flat_map(|names| names.into_iter().flatten())
        .flat_map(|name| match name {
            wasmparser::Name::Function(names) => {
                names.into_iter().flatten().map(|naming| naming.name.to_owned()).collect()
            }
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(&names[..2], ["mine", "start"]);
    assert!(names.contains(&"wasi_fd_write".to_owned()), "{names:?}");
}

#[test]
fn unknown_imports_are_refused_not_merged() {
    let program = command(r#"(import "wasi_snapshot_preview1" "fd_fly" (func))"#, "");
    assert!(merge(&program).is_err());
}

#[test]
fn bytes_that_are_no_input_fail_the_task() {
    let import = r#"(import "wasi_snapshot_preview1" "args_sizes_get" (func $f (param i32 i32) (result i32)))"#;
    let program = command(import, "(drop (call $f (i32.const 0) (i32.const 4)))");
    let mut blob = Input::default().encode().expect("nothing is possible");
    assert_eq!(run_capped(&program, &blob, 100).end, End::Returned);
    assert_eq!(run_capped(&program, &blob[..40], 100).end, End::Trap);
    blob[0] = b'c';
    assert_eq!(run_capped(&program, &blob, 100).end, End::Trap);
}

/// `check` accepts the functions of WASI by a list of its own.
#[test]
fn the_layer_has_every_function_that_is_accepted_and_no_other() {
    for (name, params) in functions() {
        let params: Vec<_> = params.iter().map(ToString::to_string).collect();
        let result = if name == "proc_exit" { "" } else { "(result i32)" };
        let import =
            format!(r#"(import "wasi_snapshot_preview1" "{name}" (func (param {}) {result}))"#, params.join(" "));
        conun_vm::check(&command(&import, "")).expect("a function that the layer has");
    }
    assert_eq!(functions().len(), 46);
}

#[test]
fn the_checked_in_layer_is_what_its_source_compiles_to() {
    if !crate::examples::compiler_is_at_hand() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wasi");
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("layer.wasm");
    let built = Command::new("sh").arg(folder.join("layer/build.sh")).arg(&fresh).output().expect("sh runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let read = |path: &Path| std::fs::read(path).expect("the layer is there");
    assert!(
        read(&fresh) == read(&folder.join("layer.wasm")),
        "vm/src/wasi/layer.wasm is not what layer/build.sh makes; run it and check it in"
    );
}
