//! The step machine as an engine under test.

use std::{collections::HashMap, sync::Arc};

use conun_vm::machine::{Code, Export, Machine};
use wasmparser::{FuncType, Parser, Payload, TypeRef, ValType};

use super::{DEPTH, Engine, FUEL, NoInstance, Value};

#[derive(Debug)]
pub(crate) struct StepMachine;

/// A machine, and the types that it does not know.
pub(crate) struct Running {
    machine: Machine,
    functions: HashMap<String, FuncType>,
    globals: HashMap<String, ValType>,
}

/// Types of the exported functions, and of the exported globals.
type Types = (HashMap<String, FuncType>, HashMap<String, ValType>);

fn types(wasm: &[u8]) -> Result<Types, NoInstance> {
    let (mut types, mut functions, mut globals) = (Vec::new(), Vec::new(), Vec::new());
    let (mut function_exports, mut global_exports) = (HashMap::new(), HashMap::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.expect("it was prepared") {
            Payload::TypeSection(section) => {
                types.extend(section.into_iter_err_on_gc_types().map(|ty| ty.expect("it was prepared")));
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.expect("it was prepared");
                    match import.ty {
                        TypeRef::Func(ty) if import.module == "spectest" => functions.push(ty),
                        _ => return Err(NoInstance::Imports),
                    }
                }
            }
            Payload::FunctionSection(section) => functions.extend(section.into_iter().map(|ty| ty.expect("prepared"))),
            Payload::GlobalSection(section) => {
                globals.extend(section.into_iter().map(|global| global.expect("it was prepared").ty.content_type));
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.expect("it was prepared");
                    let (name, index) = (export.name.to_owned(), export.index as usize);
                    match export.kind {
                        wasmparser::ExternalKind::Func => {
                            function_exports.insert(name, types[functions[index] as usize].clone());
                        }
                        wasmparser::ExternalKind::Global => {
                            global_exports.insert(name, globals[index]);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok((function_exports, global_exports))
}

impl Engine for StepMachine {
    type Instance = Running;

    fn instantiate(&mut self, prepared: &[u8]) -> Result<Running, NoInstance> {
        let (functions, globals) = types(prepared)?;
        // Segments that do not fit are an end here, as elsewhere.
        let code = Code::flatten_ignoring(prepared, "spectest").map_err(|_| NoInstance::Failed)?;
        let mut machine = Machine::instance(Arc::new(code), Arc::from([])).expect("there is memory");
        if let Some(start) = machine.start() {
            machine.invoke(start, &[]).expect("there is memory").ok_or(NoInstance::Failed)?;
        }
        Ok(Running { machine, functions, globals })
    }

    fn call(&mut self, running: &mut Running, function: &str, args: &[Value]) -> Option<Vec<Value>> {
        let machine = &mut running.machine;
        for (name, value) in [("conun:fuel", FUEL), ("conun:depth", DEPTH)] {
            let Some(Export::Global(slot)) = machine.exports().get(name).copied() else { panic!("a module counts") };
            machine.set_global(slot, value.cast_unsigned());
        }
        let Some(Export::Function(index)) = machine.exports().get(function).copied() else {
            panic!("the suite calls what is exported");
        };
        let args: Vec<_> = args.iter().map(|value| slot(*value)).collect();
        let result = machine.invoke(index, &args).expect("there is memory")?;
        let types = running.functions[function].results();
        Some(result.into_iter().zip(types).map(|(slot, ty)| value(slot, *ty)).collect())
    }

    fn global(&mut self, running: &mut Running, global: &str) -> Value {
        let Some(Export::Global(slot)) = running.machine.exports().get(global).copied() else {
            panic!("the suite reads what is exported");
        };
        value(running.machine.global(slot), running.globals[global])
    }
}

fn slot(value: Value) -> u64 {
    match value {
        Value::I32(bits) | Value::F32(bits) => bits.into(),
        Value::I64(bits) | Value::F64(bits) => bits,
    }
}

fn value(slot: u64, ty: ValType) -> Value {
    let low = u32::try_from(slot);
    match ty {
        ValType::I32 => Value::I32(low.expect("the high half of an i32's slot is zero")),
        ValType::F32 => Value::F32(low.expect("the high half of an f32's slot is zero")),
        ValType::I64 => Value::I64(slot),
        ValType::F64 => Value::F64(slot),
        other => panic!("{other} is no number"),
    }
}
