//! The engines side by side: what must be the same in all of them.

use conun_vm::{Input, Limits, Outcome, machine, native};

/// What a task comes to: the same in every engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    pub(crate) output: Vec<u8>,
    pub(crate) fuel: u64,
    /// Standard error: no part of the result, but as much the program's own work as the rest.
    pub(crate) log: Vec<u8>,
}

/// One prepared program in the native engine and in the step machine.
pub(crate) struct Engines {
    pub(crate) prepared: Vec<u8>,
    program: native::Program,
}

impl Engines {
    pub(crate) fn new(wasm: &[u8]) -> Self {
        let limits = Limits::default();
        let prepared = conun_vm::prepare(wasm, &limits).expect("the program is accepted").into_bytes();
        let program = native::Program::from_prepared(&prepared, limits).expect("the prepared program compiles");
        Self { prepared, program }
    }

    pub(crate) fn native(&self, input: &[u8], fuel_limit: u64) -> Done {
        let task = conun_vm::Task { input: input.to_vec().into(), fuel_limit };
        let done = self.program.execute(&task).expect("this machine can execute the task");
        Done { outcome: done.outcome, output: done.output, fuel: done.fuel, log: done.stderr }
    }

    pub(crate) fn step(&self, input: &[u8], fuel_limit: u64) -> Done {
        let done = machine::run(&self.prepared, input, fuel_limit, Limits::default().output_bytes);
        let done = done.expect("there is memory for the machine");
        Done { outcome: done.outcome, output: done.output, fuel: done.fuel, log: done.log }
    }

    /// The result on which both engines agree.
    pub(crate) fn both(&self, what: &str, input: &[u8], fuel_limit: u64) -> Done {
        let native = self.native(input, fuel_limit);
        assert_eq!(native, self.step(input, fuel_limit), "{what} with fuel {fuel_limit}");
        native
    }
}

/// The encoded input of a task with these arguments and nothing else.
pub(crate) fn arguments(args: &[&str]) -> Vec<u8> {
    Input { args: args.to_vec(), ..Input::default() }.encode().expect("short arguments")
}
