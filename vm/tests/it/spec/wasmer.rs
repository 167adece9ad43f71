//! wasmer as an engine under test: Cranelift as it comes, if not told otherwise without its own handling of NaNs.

use wasmer::{
    Engine as WasmerEngine, Extern, Function, Imports, Instance, Module, Store, Value as WasmerValue, imports,
    sys::{Cranelift, EngineBuilder, Features},
};

use super::{DEPTH, Engine, FUEL, NoInstance, Value};

#[derive(Debug)]
pub(crate) struct Wasmer {
    engine: WasmerEngine,
}

impl Default for Wasmer {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Wasmer {
    /// Cranelift, making every NaN of arithmetic canonical by itself or not.
    pub(crate) fn new(canonical: bool) -> Self {
        let mut compiler = Cranelift::new();
        compiler.canonicalize_nans(canonical);
        let mut features = Features::none();
        // Reference types only for the long form of `call_indirect`'s table index.
        features.bulk_memory(true).reference_types(true).multi_memory(true);
        Self { engine: EngineBuilder::new(compiler).set_features(Some(features)).engine().into() }
    }
}

/// An instance with a store of its own.
pub(crate) struct Running {
    pub(crate) store: Store,
    pub(crate) instance: Instance,
}

/// The functions of the suite's own module `spectest`, which print.
fn spectest(store: &mut Store) -> Imports {
    imports! {
        "spectest" => {
            "print" => Function::new_typed(store, || ()),
            "print_i32" => Function::new_typed(store, |_: i32| ()),
            "print_i64" => Function::new_typed(store, |_: i64| ()),
            "print_f32" => Function::new_typed(store, |_: f32| ()),
            "print_f64" => Function::new_typed(store, |_: f64| ()),
            "print_i32_f32" => Function::new_typed(store, |_: i32, _: f32| ()),
            "print_f64_f64" => Function::new_typed(store, |_: f64, _: f64| ()),
        }
    }
}

impl Engine for Wasmer {
    type Instance = Running;

    fn instantiate(&mut self, prepared: &[u8]) -> Result<Running, NoInstance> {
        let module = Module::new(&self.engine, prepared).expect("wasmer compiles what was prepared");
        let mut store = Store::new(self.engine.clone());
        let imports = spectest(&mut store);
        let known = |import: wasmer::ImportType| imports.exists(import.module(), import.name());
        if !module.imports().all(known) {
            return Err(NoInstance::Imports);
        }
        let instance = Instance::new(&mut store, &module, &imports).map_err(|_| NoInstance::Failed)?;
        Ok(Running { store, instance })
    }

    fn call(&mut self, running: &mut Running, function: &str, args: &[Value]) -> Option<Vec<Value>> {
        let Running { store, instance } = running;
        for (name, value) in [("conun:fuel", FUEL), ("conun:depth", DEPTH)] {
            let global = instance.exports.get_global(name).expect("a prepared module counts");
            global.set(store, WasmerValue::I64(value)).expect("the global is mutable");
        }
        let function = instance.exports.get_function(function).expect("the suite calls what is exported");
        let args: Vec<_> = args.iter().map(|value| given(*value)).collect();
        let results = function.call(store, &args).ok()?;
        Some(results.iter().map(taken).collect())
    }

    fn global(&mut self, running: &mut Running, global: &str) -> Value {
        let Some(Extern::Global(global)) = running.instance.exports.get_extern(global) else {
            panic!("the suite reads what is exported");
        };
        taken(&global.clone().get(&mut running.store))
    }
}

fn given(value: Value) -> WasmerValue {
    match value {
        Value::I32(bits) => WasmerValue::I32(bits.cast_signed()),
        Value::I64(bits) => WasmerValue::I64(bits.cast_signed()),
        Value::F32(bits) => WasmerValue::F32(f32::from_bits(bits)),
        Value::F64(bits) => WasmerValue::F64(f64::from_bits(bits)),
    }
}

pub(crate) fn taken(value: &WasmerValue) -> Value {
    match value {
        WasmerValue::I32(value) => Value::I32(value.cast_unsigned()),
        WasmerValue::I64(value) => Value::I64(value.cast_unsigned()),
        WasmerValue::F32(value) => Value::F32(value.to_bits()),
        WasmerValue::F64(value) => Value::F64(value.to_bits()),
        other => panic!("{other:?} is no number"),
    }
}
