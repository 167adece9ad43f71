//! The real engine: with `real-vm` the right results are those of a program, its jobs' inputs and roots the real ones.

use std::sync::OnceLock;

use alloy::primitives::{Address, B256, keccak256};
use conun_agent::manifest::{InputManifest, blob_hash};
use conun_bindings::abi::JobRegistry::{Job, Spec};
use conun_vm::{Execution, Limits, Program, Task};

/// Greets whoever is named on standard input.
const PROGRAM: &[u8] = include_bytes!("../../examples/hello/hello.wasm");

/// A job's limits.
const LIMITS: Limits = Limits { memory_bytes: 64 << 20, output_bytes: 16 << 20 };

/// The program, compiled.
#[derive(Debug)]
pub(crate) struct Machine {
    program: Program,
    root: B256,
}

/// What all tasks of a job are given.
fn inputs(requester: Address, nonce: u64) -> InputManifest {
    let seed = keccak256([requester.as_slice(), &nonce.to_be_bytes()].concat());
    InputManifest { seed: seed.0, ..InputManifest::default() }
}

/// What one task is given besides.
fn stdin(requester: Address, nonce: u64, task: u32) -> String {
    format!("task {task} of job {nonce} of {requester}")
}

impl Machine {
    /// The one of this process.
    pub(crate) fn get() -> &'static Self {
        static MACHINE: OnceLock<Machine> = OnceLock::new();
        MACHINE.get_or_init(|| {
            let prepared = conun_vm::prepare(PROGRAM, &LIMITS).expect("the example is a program");
            let root = conun_vm::roots::program_root(&prepared).expect("a prepared program has a root");
            let program = Program::from_prepared(prepared.as_bytes(), LIMITS).expect("a prepared program compiles");
            Self { program, root: root.into() }
        })
    }

    /// What a requester's job of that nonce computes.
    pub(crate) fn spec(&self, requester: Address, nonce: u64, tasks: u32) -> Spec {
        let mut inputs = inputs(requester, nonce);
        for task in 0..tasks {
            inputs.push(stdin(requester, nonce, task).as_bytes(), &[]).expect("a short text is an input");
        }
        Spec {
            program: blob_hash(PROGRAM).into(),
            programRoot: self.root,
            inputs: blob_hash(&inputs.encode()).into(),
            inputRoot: inputs.root().expect("short texts are inputs"),
            memoryLimit: LIMITS.memory_bytes,
            category: 0,
        }
    }

    /// Executes a task of a job.
    pub(crate) fn execute(&self, job: &Job, task: u32) -> Execution {
        let stdin = stdin(job.requester, job.nonce, task);
        let input = inputs(job.requester, job.nonce).input(task, stdin.as_bytes(), &[]);
        let input = input.expect("a short text is an input").into();
        let done = self.program.execute(&Task { input, fuel_limit: job.fuelLimit });
        done.expect("a program of 64 MiB is executed wherever a market is simulated")
    }
}

#[cfg(test)]
mod tests {
    use conun_agent::chain::BatchStage;
    use conun_bindings::job;
    use conun_vm::{Outcome, Output};

    use super::*;
    use crate::{Scenario, requesting::standing_result, world::World};

    fn market(lazy: f64) -> Scenario {
        let text = format!(
            "real-vm = true\nseconds = 900\n\
             [[requesters]]\nname = \"checking\"\narrivals = {{ at = [10, 20, 30] }}\ncheck-share = 1\n\
             job = {{ tasks = 4, batch-size = 2, fuel = 0.0001 }}\n\
             [[requesters]]\nname = \"voting\"\narrivals = {{ at = [15] }}\n\
             job = {{ tasks = 4, batch-size = 2, fuel = 0.0001, assurance = {{ replicas = 3, limit = 5, target = 0.97 }} }}\n\
             [[providers]]\nname = \"homes\"\ncount = 5\nspeed = 0.00001\n\
             [[providers]]\nname = \"lazy\"\ncount = 2\nspeed = 0.00001\nstrategy = {{ lazy = {{ share = {lazy} }} }}\n"
        );
        Scenario::parse(&text, "real", "real.toml").unwrap()
    }

    #[test]
    fn what_is_paid_is_what_the_program_says() {
        let mut world = World::new(&market(0.0), 1);
        world.run().unwrap();
        let index = world.node.look(world.honest_feed).unwrap().index.clone();
        let program = Program::compile(PROGRAM, LIMITS).unwrap();
        let (mut paid, mut voted) = (0, 0);
        for id in &index.order {
            let entry = index.job(id).unwrap();
            for number in 0..entry.batch_count() as u32 {
                let (mut fuel, mut greetings) = (0, Vec::new());
                for task in job::tasks_in(&entry.job, number) {
                    let name = stdin(entry.job.requester, entry.job.nonce, task);
                    let input =
                        conun_vm::Input { stdin: name.as_bytes(), ..conun_vm::Input::default() }.encode().unwrap();
                    let done = program.execute(&Task { input: input.into(), fuel_limit: entry.job.fuelLimit }).unwrap();
                    assert_eq!(done.outcome, Outcome::Ok { exit_code: 0 });
                    let said = Output::decode(&done.output).unwrap().stdout.to_vec();
                    assert!(String::from_utf8(said.clone()).unwrap().starts_with(&format!("Hello, {name}!")));
                    fuel += done.fuel;
                    greetings.push(done.output);
                }
                let (_, outputs, _) = standing_result(&index, entry, number).unwrap();
                let result = world.truth.result((*id, number), &entry.job, 0);
                assert_eq!((outputs, result.fuel), (result.outputs, fuel), "batch {number} of {id}");
                let roots = greetings.iter().map(|output| conun_agent::manifest::Content::of(output));
                assert!(roots.eq(result.manifest.results.iter().map(|result| result.output)));
                match entry.batches.get(number as usize) {
                    Some(batch) => {
                        assert_eq!((batch.stage, batch.fuel), (BatchStage::Settled, fuel));
                        paid += 1;
                    }
                    None => voted += 1,
                }
            }
        }
        assert_eq!((paid, voted), (6, 2));
    }

    #[test]
    fn who_makes_results_up_is_found_out_by_them() {
        let mut world = World::new(&market(1.0), 1);
        world.trace.keep();
        let figures = world.run().unwrap();
        let trace = world.trace.take();
        assert!(trace.contains("finds wrong batch"), "nobody took a batch to cheat with");
        assert_eq!(figures.wrong, 0);
        let group = |name: &str| figures.groups.iter().find(|group| group.name == name).unwrap();
        assert_eq!(group("lazy").executions, 0);
        assert!(group("lazy").gain <= 0.0 && group("homes").gain > 0.0, "{figures:?}");
    }
}
