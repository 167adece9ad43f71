//! The same module without instrumentation: what fuel, depth and NaNs cost is the difference.

use conun_vm::Limits;
use wasmer::{
    Engine, Function, FunctionEnv, FunctionEnvMut, Imports, Instance, Memory, Module, RuntimeError, Store,
    sys::{Cranelift, CraneliftOptLevel, EngineBuilder, Features},
};

/// A program with its WASI layer, compiled as the native engine compiles prepared modules.
pub(crate) struct Plain {
    engine: Engine,
    module: Module,
}

struct Host {
    input: Vec<u8>,
    output: Vec<u8>,
    memories: Vec<Memory>,
}

#[derive(Debug, thiserror::Error)]
#[error("exit with code {0}")]
struct Exit(i32);

impl Plain {
    pub(crate) fn new(merged: &[u8]) -> Self {
        let mut compiler = Cranelift::new();
        compiler.canonicalize_nans(false).opt_level(CraneliftOptLevel::Speed);
        let mut features = Features::none();
        features.bulk_memory(true).reference_types(true).multi_memory(true);
        let engine: Engine = EngineBuilder::new(compiler).set_features(Some(features)).engine().into();
        let module = Module::from_binary(&engine, merged).expect("a merged module is valid");
        Self { engine, module }
    }

    /// What the program wrote.
    pub(crate) fn run(&self, input: &[u8]) -> Vec<u8> {
        let mut store = Store::new(self.engine.clone());
        let host = Host { input: input.to_owned(), output: Vec::new(), memories: Vec::new() };
        let env = FunctionEnv::new(&mut store, host);
        let mut imports = Imports::new();
        imports.define("conun", "input_len", Function::new_typed_with_env(&mut store, &env, input_len));
        imports.define("conun", "input_read", Function::new_typed_with_env(&mut store, &env, input_read));
        imports.define("conun", "output_write", Function::new_typed_with_env(&mut store, &env, output_write));
        imports.define("conun", "exit", Function::new_typed_with_env(&mut store, &env, exit));
        let instance = Instance::new(&mut store, &self.module, &imports).expect("the four imports are all");
        let memory = |name| Some(instance.exports.get_memory(name).ok()?.clone());
        env.as_mut(&mut store).memories = ["memory", "system"].into_iter().filter_map(memory).collect();
        let start = instance.exports.get_typed_function::<(), ()>(&store, "_start").expect("a command");
        if let Err(error) = start.call(&mut store) {
            let code = error.downcast_ref::<Exit>().map(|exit| exit.0);
            assert_eq!(code, Some(0), "the program succeeds: {error}");
        }
        std::mem::take(&mut env.as_mut(&mut store).output)
    }
}

fn input_len(env: FunctionEnvMut<'_, Host>) -> i64 {
    i64::try_from(env.data().input.len()).expect("shorter than memory")
}

/// The memory that an address names, and the place there.
fn memory(env: &FunctionEnvMut<'_, Host>, address: i64) -> (Memory, u64) {
    let index = usize::try_from(address >> 32).expect("the layer's addresses are not negative");
    (env.data().memories[index].clone(), address.cast_unsigned() & u64::from(u32::MAX))
}

fn input_read(mut env: FunctionEnvMut<'_, Host>, offset: i64, address: i64, length: i32) -> i32 {
    let (memory, place) = memory(&env, address);
    let (host, store) = env.data_and_store_mut();
    let offset = usize::try_from(offset).expect("offsets are not negative").min(host.input.len());
    let n = (length.cast_unsigned() as usize).min(host.input.len() - offset);
    memory.view(&store).write(place, &host.input[offset..offset + n]).expect("the layer reads into its buffers");
    i32::try_from(n).expect("inputs are short here")
}

fn output_write(mut env: FunctionEnvMut<'_, Host>, address: i64, length: i32) {
    let (memory, place) = memory(&env, address);
    let (host, store) = env.data_and_store_mut();
    let mut bytes = vec![0; length.cast_unsigned() as usize];
    memory.view(&store).read(place, &mut bytes).expect("the layer writes its buffers");
    host.output.append(&mut bytes);
    assert!(host.output.len() as u64 <= Limits::default().output_bytes, "the output is short");
}

fn exit(_: FunctionEnvMut<'_, Host>, code: i32) -> Result<(), RuntimeError> {
    Err(RuntimeError::user(Box::new(Exit(code))))
}
