//! Every numeric instruction, load and store on edge operands, in both engines: operands in slots, a constant operand, and
//! of comparisons also as the condition of a branch, which the step machine executes as instructions of their own.

use std::fmt::Write as _;

use conun_vm::{Limits, prepare_library};

use crate::{
    spec::{Engine, Value, machine::StepMachine, wasmer::Wasmer},
    wasm,
};

const I32: [u32; 17] = [
    0,
    1,
    2,
    0xffff_ffff,
    0xffff_fffe,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    31,
    32,
    33,
    0x7f,
    0x80,
    0xff80,
    0x8000,
    0x1_0000,
    0xdead_beef,
];

const I64: [u64; 20] = [
    0,
    1,
    2,
    u64::MAX,
    u64::MAX - 1,
    i64::MAX as u64,
    1 << 63,
    (1 << 63) + 1,
    63,
    64,
    65,
    0x80,
    0x8000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0xffff_ffff_8000_0000,
    (1 << 53) + 1,
    0x0123_4567_89ab_cdef,
];

/// Zeros, one, ties, subnormals, extremes, infinities, NaNs of both signs with and without payload, quiet and signalling, and
/// the neighbours of every bound of truncation.
fn f32s() -> Vec<u32> {
    let mut all = vec![0, 1, 0x007f_ffff, 0x0080_0000, 0x7f7f_ffff, 0x7f80_0000];
    all.extend([0x7fc0_0000, 0x7fc0_1234, 0x7f80_0001, 0x7fff_ffff]);
    for value in [0.5f32, 1.0, 1.5, 2.5, 3.7, 8_388_609.0, 1e-10] {
        all.push(value.to_bits());
    }
    for bound in [2_147_483_648f32, 4_294_967_296.0, 9_223_372_036_854_775_808.0, 18_446_744_073_709_551_616.0] {
        all.extend([bound.next_down(), bound, bound.next_up()].map(f32::to_bits));
    }
    let negative: Vec<_> = all.iter().map(|bits| bits | 1 << 31).collect();
    all.extend(negative);
    all
}

/// The same in 64 bits.
fn f64s() -> Vec<u64> {
    let mut all =
        vec![0, 1, 0x000f_ffff_ffff_ffff, 0x0010_0000_0000_0000, 0x7fef_ffff_ffff_ffff, 0x7ff0_0000_0000_0000];
    all.extend([0x7ff8_0000_0000_0000, 0x7ff8_0000_dead_beef, 0x7ff0_0000_0000_0001, 0x7fff_ffff_ffff_ffff]);
    for value in [0.5f64, 1.0, 1.5, 2.5, 3.7, 4_503_599_627_370_497.5, 1e-40, 1e300, 1e39] {
        all.push(value.to_bits());
    }
    // Halfway between two floats of 32 bits.
    all.push((f64::from(1.0f32) + f64::from(f32::EPSILON) / 2.0).to_bits());
    for bound in [2_147_483_648f64, 4_294_967_296.0, 9_223_372_036_854_775_808.0, 18_446_744_073_709_551_616.0] {
        all.extend([bound.next_down(), bound, bound.next_up(), bound + 1.0, bound - 1.0].map(f64::to_bits));
    }
    let negative: Vec<_> = all.iter().map(|bits| bits | 1 << 63).collect();
    all.extend(negative);
    all
}

fn operands(ty: &str) -> Vec<Value> {
    match ty {
        "i32" => I32.map(Value::I32).to_vec(),
        "i64" => I64.map(Value::I64).to_vec(),
        "f32" => f32s().into_iter().map(Value::F32).collect(),
        "f64" => f64s().into_iter().map(Value::F64).collect(),
        other => panic!("no type: {other}"),
    }
}

/// A constant instruction for a number; a NaN by its bits.
fn constant(value: Value) -> String {
    match value {
        Value::I32(bits) => format!("(i32.const {})", bits.cast_signed()),
        Value::I64(bits) => format!("(i64.const {})", bits.cast_signed()),
        Value::F32(bits) => {
            let (sign, payload) = (if bits >> 31 == 0 { "" } else { "-" }, bits & 0x7f_ffff);
            match f32::from_bits(bits & !(1 << 31)) {
                nan if nan.is_nan() => format!("(f32.const {sign}nan:{payload:#x})"),
                infinity if infinity.is_infinite() => format!("(f32.const {sign}inf)"),
                number => format!("(f32.const {sign}{number:?})"),
            }
        }
        Value::F64(bits) => {
            let (sign, payload) = (if bits >> 63 == 0 { "" } else { "-" }, bits & 0xf_ffff_ffff_ffff);
            match f64::from_bits(bits & !(1 << 63)) {
                nan if nan.is_nan() => format!("(f64.const {sign}nan:{payload:#x})"),
                infinity if infinity.is_infinite() => format!("(f64.const {sign}inf)"),
                number => format!("(f64.const {sign}{number:?})"),
            }
        }
    }
}

/// Instructions with two operands: name, type of the operands, type of the result.
fn binary() -> Vec<(String, &'static str, &'static str)> {
    let mut all = Vec::new();
    let mut add = |ty: &'static str, names: &str, result: Option<&'static str>| {
        all.extend(names.split(' ').map(|name| (format!("{ty}.{name}"), ty, result.unwrap_or(ty))));
    };
    for ty in ["i32", "i64"] {
        add(ty, "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u", Some("i32"));
        add(ty, "add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr", None);
    }
    for ty in ["f32", "f64"] {
        add(ty, "eq ne lt gt le ge", Some("i32"));
        add(ty, "add sub mul div min max copysign", None);
    }
    all
}

/// Instructions with one operand: name, type of the operand, type of the result.
fn unary() -> Vec<(String, &'static str, &'static str)> {
    let mut all = Vec::new();
    let mut add = |from: &'static str, to: &'static str, names: &str| {
        all.extend(names.split(' ').map(|name| (format!("{to}.{name}"), from, to)));
    };
    for ty in ["i32", "i64"] {
        add(ty, ty, "clz ctz popcnt extend8_s extend16_s");
    }
    for ty in ["f32", "f64"] {
        add(ty, ty, "abs neg ceil floor trunc nearest sqrt");
        let from = |name: &str| name.split(' ').map(|name| format!("{name}{ty}_s {name}{ty}_u ")).collect::<String>();
        for to in ["i32", "i64"] {
            add(ty, to, from("trunc_ trunc_sat_").trim());
        }
    }
    for ty in ["f32", "f64"] {
        add("i32", ty, "convert_i32_s convert_i32_u");
        add("i64", ty, "convert_i64_s convert_i64_u");
    }
    add("i64", "i64", "extend32_s");
    add("i64", "i32", "wrap_i64");
    add("i32", "i64", "extend_i32_s extend_i32_u");
    add("f64", "f32", "demote_f64");
    add("f32", "f64", "promote_f32");
    add("f32", "i32", "reinterpret_f32");
    add("f64", "i64", "reinterpret_f64");
    add("i32", "f32", "reinterpret_i32");
    add("i64", "f64", "reinterpret_i64");
    all.push(("i32.eqz".to_owned(), "i32", "i32"));
    all.push(("i64.eqz".to_owned(), "i64", "i32"));
    all
}

/// A module whose function `index` is the `index`-th of `functions`, each with signature and body.
struct Both {
    machine: <StepMachine as Engine>::Instance,
    wasmer: <Wasmer as Engine>::Instance,
    engine: Wasmer,
}

impl Both {
    fn new(around: &str, functions: &[(String, String)]) -> Self {
        let mut text = format!("(module {around}");
        for (index, (signature, body)) in functions.iter().enumerate() {
            write!(text, "(func (export \"{index}\") {signature} {body})").expect("a string takes everything");
        }
        let prepared = prepare_library(&wasm(&(text + ")")), &Limits::default()).expect("it is accepted");
        let mut engine = Wasmer::default();
        let machine = StepMachine.instantiate(prepared.as_bytes()).expect("it can be instantiated");
        let wasmer = engine.instantiate(prepared.as_bytes()).expect("it can be instantiated");
        Self { machine, wasmer, engine }
    }

    /// Calls a function in both engines, which must agree.
    fn call(&mut self, what: &str, index: usize, args: &[Value]) -> Option<Vec<Value>> {
        let name = index.to_string();
        let ours = StepMachine.call(&mut self.machine, &name, args);
        let theirs = self.engine.call(&mut self.wasmer, &name, args);
        assert_eq!(ours, theirs, "{what} {args:x?}");
        ours
    }
}

#[test]
fn unary_instructions_agree_on_edge_operands() {
    let all = unary();
    let functions: Vec<_> = all
        .iter()
        .map(|(name, from, to)| (format!("(param {from}) (result {to})"), format!("({name} (local.get 0))")))
        .collect();
    let mut both = Both::new("", &functions);
    for (index, (name, from, _)) in all.iter().enumerate() {
        for operand in operands(from) {
            both.call(name, index, &[operand]);
        }
    }
}

#[test]
fn binary_instructions_agree_on_edge_operands() {
    let all = binary();
    let mut functions = Vec::new();
    for (name, ty, result) in &all {
        functions
            .push((format!("(param {ty} {ty}) (result {result})"), format!("({name} (local.get 0) (local.get 1))")));
    }
    let mut both = Both::new("", &functions);
    for (index, (name, ty, _)) in all.iter().enumerate() {
        let operands = operands(ty);
        for a in &operands {
            for b in &operands {
                both.call(name, index, &[*a, *b]);
            }
        }
    }
}

#[test]
fn constant_operands_are_as_those_in_slots() {
    let (mut functions, mut what) = (Vec::new(), Vec::new());
    for (name, ty, result) in binary() {
        for b in operands(ty) {
            let constant = constant(b);
            what.push((name.clone(), ty, b));
            functions.push((format!("(param {ty}) (result {result})"), format!("({name} (local.get 0) {constant})")));
        }
    }
    let mut both = Both::new("", &functions);
    for (index, (name, ty, constant)) in what.iter().enumerate() {
        for a in operands(ty) {
            both.call(&format!("{name} with {constant:x?}"), index, &[a]);
        }
    }
}

#[test]
fn comparisons_branch_as_they_answer() {
    let (mut functions, mut what) = (Vec::new(), Vec::new());
    let signature = |ty: &str| format!("(param {ty} {ty}) (result i32)");
    for (name, ty, result) in binary() {
        if result != "i32"
            || name.len() > 8
            || !["eq", "ne", "lt", "gt", "le", "ge"].iter().any(|op| name[4..].starts_with(op))
        {
            continue;
        }
        let mut rights = vec![("(local.get 1)".to_owned(), None)];
        rights.extend(operands(ty).into_iter().map(|b| (constant(b), Some(b))));
        for (right, b) in rights {
            let condition = format!("({name} (local.get 0) {right})");
            for body in [
                format!("(if (result i32) {condition} (then (i32.const 10)) (else (i32.const 20)))"),
                format!("(block (br_if 0 {condition}) (return (i32.const 20))) (i32.const 10)"),
                format!("(block (br_if 0 (i32.eqz {condition})) (return (i32.const 10))) (i32.const 20)"),
                format!("(select (i32.const 10) (i32.const 20) {condition})"),
            ] {
                functions.push((signature(ty), body));
                what.push((name.clone(), ty, b));
            }
        }
    }
    let mut both = Both::new("", &functions);
    for (index, (name, ty, b)) in what.iter().enumerate() {
        let rights = b.map_or_else(|| operands(ty), |b| vec![b]);
        for a in operands(ty) {
            for b in &rights {
                let answer = both.call(name, index, &[a, *b]).expect("a comparison does not trap");
                assert!(answer == [Value::I32(10)] || answer == [Value::I32(20)], "{name} {a:x?} {b:x?}: {answer:?}");
            }
        }
    }
}

#[test]
fn loads_and_stores_agree_at_the_end_of_both_memories() {
    let mut functions = Vec::new();
    let loads = [
        ("i32", "load load8_s load8_u load16_s load16_u"),
        ("i64", "load load8_s load8_u load16_s load16_u load32_s load32_u"),
        ("f32", "load"),
        ("f64", "load"),
    ];
    for offset in ["", "offset=7", "offset=4294967295"] {
        for (ty, names) in loads {
            for name in names.split(' ') {
                functions.push((format!("(param i32) (result {ty})"), format!("({ty}.{name} {offset} (local.get 0))")));
                functions.push((
                    format!("(param i32) (result {ty})"),
                    format!("({ty}.{name} {offset} (i32.add (local.get 0) (i32.const -65)))"),
                ));
            }
        }
        for (ty, names) in [
            ("i32", "store store8 store16"),
            ("i64", "store store8 store16 store32"),
            ("f32", "store"),
            ("f64", "store"),
        ] {
            for name in names.split(' ') {
                // What is stored is read back by all of it.
                functions.push((
                    "(param i32 i64) (result i64)".to_owned(),
                    format!(
                        "({ty}.{name} {offset} (i32.add (local.get 0) (i32.const -1)) {})
                         (i64.xor (i64.load (i32.and (local.get 0) (i32.const 0xfff8)))
                            (i64.load (i32.and (i32.sub (local.get 0) (i32.const 8)) (i32.const 0xfff8))))",
                        match ty {
                            "i32" => "(i32.wrap_i64 (local.get 1))",
                            "i64" => "(local.get 1)",
                            "f32" => "(f32.reinterpret_i32 (i32.wrap_i64 (local.get 1)))",
                            _ => "(f64.reinterpret_i64 (local.get 1))",
                        }
                    ),
                ));
            }
        }
    }
    let around = r#"(memory 1 1) (data (i32.const 0) "\f1\82\73\e4\95\06\b7\88\79\fa") (data (i32.const 65526) "\f1\82\73\e4\95\06\b7\88\79\fa")"#;
    let mut both = Both::new(around, &functions);
    let addresses = (0..80).chain(65_440..65_620).chain(u32::MAX - 80..=u32::MAX).chain([32_760, 1 << 31]);
    for (index, (signature, body)) in functions.iter().enumerate() {
        for address in addresses.clone() {
            let mut args = vec![Value::I32(address)];
            if signature.starts_with("(param i32 i64)") {
                args.push(Value::I64(0xfedc_ba98_7654_3210 ^ u64::from(address)));
            }
            both.call(body, index, &args);
        }
    }
}
