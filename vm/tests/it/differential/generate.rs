//! Programs out of random bytes: wasm-smith's modules, made to run long and to tell much.
//!
//! Left to itself, a random module traps or spins before anything can be seen of it. So a module is generated to a shape, with
//! six functions of known types, and then written anew:
//!
//! - a new `_start` calls the six with arguments out of the random bytes; after each call it writes what came back, at the end
//!   all globals and a digest of the memory;
//! - in most modules, functions return when loops and calls have gone round too often since `_start` called the last time;
//! - in most modules, calls of the four imports go to *guards*, which keep addresses and lengths in range and let few exits
//!   through, and so do two imports of the shape that become `memory.copy` and `memory.fill`.

use arbitrary::Unstructured;
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
    ImportSection, Instruction, InstructionSink, MemArg, Module, TypeSection, ValType,
    reencode::{Error, Reencode, utils},
};

/// What wasm-smith has to keep to: the functions that `_start` calls, and what they may call.
const SHAPE: &str = r#"(module
    (import "conun" "input_len" (func (result i64)))
    (import "conun" "input_read" (func (param i64 i64 i32) (result i32)))
    (import "conun" "output_write" (func (param i64 i32)))
    (import "conun" "exit" (func (param i32)))
    (import "guard" "copy" (func (param i32 i32 i32)))
    (import "guard" "fill" (func (param i32 i32 i32)))
    (memory (export "memory") 1 4)
    (func (export "f0") (result i64) unreachable)
    (func (export "f1") (param i32) (result i32) unreachable)
    (func (export "f2") (param i64 i32) (result i64) unreachable)
    (func (export "f3") (param f64 f64) (result f64) unreachable)
    (func (export "f4") (param f32 i32) (result f32) unreachable)
    (func (export "f5") (param i32 f64 i64 f32) unreachable))"#;

/// Functions of the shape that `_start` calls.
const CALLED: usize = 6;

/// How many imports of the shape stay: those of `conun`.
const KEPT_IMPORTS: u32 = 4;
const SHAPE_IMPORTS: u32 = 6;

/// How often loops and calls go round before functions return.
const ROUNDS: i32 = 1000;

/// Functions added behind the module's own: a guard for each import of the shape but `input_len`, then `_start`.
const GUARDS: u32 = SHAPE_IMPORTS - 1;

/// A program for every sequence of bytes that is long enough; equal bytes make equal programs.
///
/// # Errors
/// If the bytes do not suffice.
pub(crate) fn program(bytes: &[u8]) -> arbitrary::Result<Vec<u8>> {
    let mut u = Unstructured::new(bytes);
    let guarded = u.ratio(15, 16)?;
    let bounded = u.ratio(31, 32)?;
    let arguments = arguments(&mut u)?;
    let module = wasm_smith::Module::new(config(&mut u)?, &mut u)?.to_bytes();
    let mut rewriter = Rewriter { guarded, bounded, arguments, ..Rewriter::default() };
    let mut written = Module::new();
    rewriter
        .parse_core_module(&mut written, wasmparser::Parser::new(0), &module)
        .expect("wasm-smith's modules are valid");
    Ok(written.finish())
}

fn config(u: &mut Unstructured<'_>) -> arbitrary::Result<wasm_smith::Config> {
    let bulk = u.ratio(1, 4)?;
    Ok(wasm_smith::Config {
        module_shape: Some(wat::parse_str(SHAPE).expect("the shape is well-formed")),
        // The instructions that wasm-smith has with bulk memory include those on tables, which are refused.
        bulk_memory_enabled: bulk,
        max_tables: usize::from(!bulk),
        disallow_traps: !bulk && u.ratio(7, 8)?,
        max_data_segments: 4,
        max_element_segments: if bulk { 0 } else { 4 },
        max_elements: 16,
        max_funcs: 12,
        max_globals: 12,
        max_instructions: 40 << u.int_in_range(0..=4)?,
        max_memories: 1,
        max_memory32_bytes: 4 << 16,
        max_table_elements: 32,
        max_types: 16,
        ..accepted()
    })
}

/// Without what `check` refuses. (With bulk memory come changes of tables, too.)
pub(crate) fn accepted() -> wasm_smith::Config {
    wasm_smith::Config {
        allow_start_export: false,
        exceptions_enabled: false,
        extended_const_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        multi_value_enabled: false,
        reference_types_enabled: false,
        relaxed_simd_enabled: false,
        simd_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        ..wasm_smith::Config::default()
    }
}

/// Constants for the calls, 16 rounds at most.
fn arguments(u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<[u64; 4]>> {
    const EDGES: [u64; 16] = [
        0,
        1,
        2,
        0xff,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        i64::MAX as u64,
        i64::MIN as u64,
        u64::MAX,
        0x7fc0_0000,
        0x7fa0_1234,
        0x3ff8_0000_0000_0000,
        0x7ff8_0000_0000_0000,
        0xfff4_0000_0000_5678,
        0xc1e0_0000_0000_0000,
    ];
    let rounds = CALLED * u.int_in_range(1..=3usize)?;
    (0..rounds)
        .map(|_| {
            let mut values = [0; 4];
            for value in &mut values {
                *value = if u.ratio(3, 4)? { *u.choose(&EDGES)? } else { u.arbitrary()? };
            }
            Ok(values)
        })
        .collect()
}

/// Writes a module anew, section by section, and learns on the way what `_start` needs to know.
#[derive(Default)]
struct Rewriter {
    guarded: bool,
    bounded: bool,
    arguments: Vec<[u64; 4]>,
    types: Vec<wasmparser::FuncType>,
    /// Type index of each function, imports of the shape included.
    functions: Vec<u32>,
    /// Types of the module's own globals.
    globals: Vec<wasmparser::ValType>,
    /// Which of the defined functions is written.
    writing: u32,
    /// Indices in the generated module of `f0` to `f5`.
    called: [u32; CALLED],
}

impl Rewriter {
    /// The index, in the module that is written, of the first function behind the module's own.
    fn first_added(&self) -> u32 {
        u32::try_from(self.functions.len()).expect("few functions") - (SHAPE_IMPORTS - KEPT_IMPORTS)
    }

    /// The global that counts rounds: the last one.
    fn rounds(&self) -> u32 {
        u32::try_from(self.globals.len()).expect("few globals")
    }

    /// Returns zero from the function that is written, when there are no more rounds.
    fn bound(&self, code: &mut InstructionSink<'_>) {
        let ty = &self.types[self.functions[(SHAPE_IMPORTS + self.writing) as usize] as usize];
        code.global_get(self.rounds()).i32_const(1).i32_sub().global_set(self.rounds());
        code.global_get(self.rounds()).i32_const(0).i32_lt_s().if_(BlockType::Empty);
        if let Some(&result) = ty.results().first() {
            constant(code, result, 0);
        }
        code.return_().end();
    }
}

type Rewritten = Result<(), Error<std::convert::Infallible>>;

impl Reencode for Rewriter {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error<Self::Error>> {
        Ok(match function {
            0 => 0,
            1..KEPT_IMPORTS if !self.guarded => function,
            1..SHAPE_IMPORTS => self.first_added() + function - 1,
            defined => defined - (SHAPE_IMPORTS - KEPT_IMPORTS),
        })
    }

    fn parse_type_section(&mut self, types: &mut TypeSection, section: wasmparser::TypeSectionReader<'_>) -> Rewritten {
        for group in section.clone() {
            self.types.extend(group?.types().map(|ty| ty.unwrap_func().clone()));
        }
        utils::parse_type_section(self, types, section)?;
        types.ty().function([], []);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Rewritten {
        for (index, import) in (0..).zip(section.into_imports()) {
            let import = import?;
            if let wasmparser::TypeRef::Func(ty) = import.ty {
                self.functions.push(ty);
            }
            if index < KEPT_IMPORTS {
                self.parse_import(imports, import)?;
            }
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Rewritten {
        for ty in section {
            let ty = ty?;
            self.functions.push(ty);
            functions.function(ty);
        }
        for guard in 1..=GUARDS {
            functions.function(self.functions[guard as usize]);
        }
        functions.function(u32::try_from(self.types.len()).expect("few types"));
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Rewritten {
        for global in section {
            let global = global?;
            self.globals.push(global.ty.content_type);
            self.parse_global(globals, global)?;
        }
        let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(ty, &ConstExpr::i32_const(ROUNDS));
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Rewritten {
        for export in section {
            let export = export?;
            let called = export.name.strip_prefix('f').and_then(|digit| digit.parse::<usize>().ok());
            if let Some(called) = called.and_then(|index| self.called.get_mut(index)) {
                *called = export.index;
            }
        }
        exports.export("memory", ExportKind::Memory, 0);
        exports.export("_start", ExportKind::Func, self.first_added() + GUARDS);
        Ok(())
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, body: wasmparser::FunctionBody<'_>) -> Rewritten {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        if self.bounded {
            self.bound(&mut function.instructions());
        }
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let instruction = self.parse_instruction(&mut reader)?;
            function.instruction(&instruction);
            if self.bounded && matches!(instruction, Instruction::Loop(_)) {
                self.bound(&mut function.instructions());
            }
        }
        code.function(&function);
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: wasmparser::CodeSectionReader<'_>) -> Rewritten {
        for body in section {
            self.parse_function_body(code, body?)?;
            self.writing += 1;
        }
        for guard in [guard_input_read, guard_output_write, guard_exit, guard_copy, guard_fill] {
            let mut function = Function::new([]);
            guard(&mut function.instructions());
            code.function(&function);
        }
        let mut function = Function::new([(1, ValType::I64), (1, ValType::I32)]);
        start(self, &mut function.instructions())?;
        code.function(&function);
        Ok(())
    }
}

/// A place in the first 16 KiB of the memory, which always has 64.
fn place(code: &mut InstructionSink<'_>, local: u32) {
    code.local_get(local).i32_const(0x3fff).i32_and();
}

fn length(code: &mut InstructionSink<'_>, local: u32, most: i32) {
    code.local_get(local).i32_const(most).i32_and();
}

fn guard_input_read(code: &mut InstructionSink<'_>) {
    code.local_get(0).i64_const(0xff).i64_and().local_get(1).i64_const(0x3fff).i64_and();
    length(code, 2, 0xff);
    code.call(1).end();
}

fn guard_output_write(code: &mut InstructionSink<'_>) {
    code.local_get(0).i64_const(0x3fff).i64_and();
    length(code, 1, 0xff);
    code.call(2).end();
}

fn guard_exit(code: &mut InstructionSink<'_>) {
    code.local_get(0).i32_const(15).i32_and().i32_const(5).i32_eq();
    code.if_(BlockType::Empty).local_get(0).call(3).end().end();
}

fn guard_copy(code: &mut InstructionSink<'_>) {
    place(code, 0);
    place(code, 1);
    length(code, 2, 0x1fff);
    code.memory_copy(0, 0).end();
}

fn guard_fill(code: &mut InstructionSink<'_>) {
    place(code, 0);
    code.local_get(1);
    length(code, 2, 0x1fff);
    code.memory_fill(0).end();
}

/// Local 0: what has been seen so far, mixed. Local 1: where in the memory.
fn start(rewriter: &mut Rewriter, code: &mut InstructionSink<'_>) -> Rewritten {
    let arguments = std::mem::take(&mut rewriter.arguments);
    for (round, values) in arguments.iter().enumerate() {
        let function = rewriter.called[round % CALLED];
        let ty = rewriter.types[rewriter.functions[function as usize] as usize].clone();
        code.i32_const(ROUNDS).global_set(rewriter.rounds());
        for (&ty, &value) in ty.params().iter().zip(values) {
            constant(code, ty, value);
        }
        code.call(rewriter.function_index(function)?);
        if let Some(&ty) = ty.results().first() {
            mix(code, ty);
            tell(code);
        }
    }
    for (index, &ty) in (0..).zip(&rewriter.globals) {
        code.global_get(index);
        mix(code, ty);
    }
    let word = MemArg { offset: 0, align: 3, memory_index: 0 };
    code.loop_(BlockType::Empty).local_get(1).i64_load(word);
    mix(code, wasmparser::ValType::I64);
    code.local_get(1).i32_const(8).i32_add().local_tee(1);
    code.memory_size(0).i32_const(16).i32_shl().i32_lt_u().br_if(0).end();
    tell(code);
    code.end();
    Ok(())
}

/// The low bits of `value` as a constant of that type.
fn constant(code: &mut InstructionSink<'_>, ty: wasmparser::ValType, value: u64) {
    let low = u32::try_from(value & u64::from(u32::MAX)).expect("32 bits are kept");
    match ty {
        wasmparser::ValType::I32 => code.i32_const(low.cast_signed()),
        wasmparser::ValType::I64 => code.i64_const(value.cast_signed()),
        wasmparser::ValType::F32 => code.f32_const(f32::from_bits(low).into()),
        wasmparser::ValType::F64 => code.f64_const(f64::from_bits(value).into()),
        _ => unreachable!("the shape has numbers only"),
    };
}

/// Takes the number on top of the stack into local 0.
fn mix(code: &mut InstructionSink<'_>, ty: wasmparser::ValType) {
    match ty {
        wasmparser::ValType::I32 => code.i64_extend_i32_u(),
        wasmparser::ValType::F32 => code.i32_reinterpret_f32().i64_extend_i32_u(),
        wasmparser::ValType::F64 => code.i64_reinterpret_f64(),
        _ => code,
    };
    code.local_get(0).i64_xor().i64_const(0x0000_0100_0000_01b3).i64_mul().local_tee(0);
    code.local_get(0).i64_const(29).i64_shr_u().i64_xor().local_set(0);
}

/// Writes local 0 to the output, by way of the first bytes of the memory.
fn tell(code: &mut InstructionSink<'_>) {
    let word = MemArg { offset: 0, align: 3, memory_index: 0 };
    code.i32_const(0).local_get(0).i64_store(word).i64_const(0).i32_const(8).call(2);
}
