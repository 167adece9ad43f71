//! The one configuration of wasmer that executes prepared modules.

use std::{num::NonZero, sync::OnceLock};

use wasmer::{
    Engine,
    sys::{Cranelift, CraneliftOptLevel, EngineBuilder, Features, NativeEngineExt, Target},
};

use super::memory::{HostFailures, Rules};

/// Cranelift without anything that a prepared module already does for itself: NaNs and fuel are in its code.
fn compiler() -> Cranelift {
    let mut compiler = Cranelift::new();
    compiler.canonicalize_nans(false).opt_level(CraneliftOptLevel::Speed);
    compiler
}

/// What prepared modules use. Reference types are on only for the overlong table index of `call_indirect`; preparation has
/// refused their operators.
fn features() -> Features {
    let mut features = Features::none();
    features.bulk_memory(true).reference_types(true).multi_memory(true);
    features
}

/// An engine that compiles, on that many threads.
pub(super) fn compiling(threads: NonZero<usize>, failures: HostFailures) -> Engine {
    let mut compiler = compiler();
    compiler.num_threads(threads);
    let mut engine: Engine = EngineBuilder::new(compiler).set_features(Some(features())).engine().into();
    engine.set_tunables(Rules::new(failures));
    engine
}

/// An engine that only loads what another one has compiled.
pub(super) fn headless(failures: HostFailures) -> Engine {
    let mut engine: Engine = EngineBuilder::headless().engine().into();
    engine.set_tunables(Rules::new(failures));
    engine
}

/// Names what decides the native code of a prepared module beside [`PROFILE`](crate::PROFILE), which has the engine's version:
/// its options, and this machine's processor.
///
/// Code compiled under one id must not be loaded under another.
pub fn engine_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let engine: Engine = EngineBuilder::new(compiler()).set_features(Some(features())).engine().into();
        let target = Target::default();
        let processor: Vec<_> = target.cpu_features().iter().map(|feature| format!("{feature:?}")).collect();
        format!("{}/{}/{}", engine.deterministic_id(), target.triple(), processor.join("+"))
    })
}
