//! The programs of `vm/programs` in several ways, side by side: one table of ratios from one run.
//!
//! `cargo bench -p conun-vm --bench programs [-- WAY.. PROGRAM.. --rounds N]`; without a way `native`, `plain` and `prepared`.
//!
//! | way | what runs |
//! |---|---|
//! | `native` | the C source, by `cc -O2` |
//! | `plain` | the wasm module with its WASI layer in wasmer, not instrumented |
//! | `prepared` | the prepared module in the native engine |
//! | `step` | the prepared module in the step machine (much slower: once) |
//! | `wasmtime` | the wasm module in wasmtime with its own fuel on, by `in_wasmtime.py` |
//!
//! Each way runs once a round, one after the other, so that a busy machine disturbs all alike; the least user time of each
//! counts. Compilation is not in it.

mod clock;
mod plain;
#[allow(dead_code, reason = "the sizes for tests")]
#[path = "../../programs/table.rs"]
mod table;

use std::{
    collections::HashMap,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use conun_vm::{Input, Limits, MAX_FUEL, Outcome, machine, merge, native, prepare};
use plain::Plain;
use table::{SAMPLES, Sample};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    Native,
    Plain,
    Prepared,
    Step,
    Wasmtime,
}

impl Way {
    const ALL: [(&str, Self); 5] = [
        ("native", Self::Native),
        ("plain", Self::Plain),
        ("prepared", Self::Prepared),
        ("step", Self::Step),
        ("wasmtime", Self::Wasmtime),
    ];
}

/// Ratios of the table, with the goal for their geometric mean and for the worst.
const RATIOS: [(&str, Way, Way, f64, f64); 4] = [
    ("prepared/native", Way::Prepared, Way::Native, 1.35, 2.0),
    ("prepared/plain", Way::Prepared, Way::Plain, 1.15, 1.4),
    ("prepared/wasmtime", Way::Prepared, Way::Wasmtime, 1.0, f64::INFINITY),
    ("step/prepared", Way::Step, Way::Prepared, 25.0, f64::INFINITY),
];

struct Plan {
    ways: Vec<Way>,
    samples: Vec<&'static Sample>,
    rounds: u32,
    large: bool,
}

impl Plan {
    /// `cargo bench` passes `--bench`. `cargo test` does not: then everything but wasmtime runs once, with little work.
    fn from_args() -> Self {
        let mut plan = Self { ways: Vec::new(), samples: Vec::new(), rounds: 5, large: false };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            if arg == "--bench" {
                plan.large = true;
            } else if arg == "--rounds" {
                plan.rounds = args.next().and_then(|n| n.parse().ok()).expect("--rounds N");
            } else if let Some((_, way)) = Way::ALL.iter().find(|(name, _)| *name == arg) {
                plan.ways.push(*way);
            } else {
                plan.samples.extend(SAMPLES.iter().filter(|sample| sample.name == arg));
            }
        }
        if plan.ways.is_empty() {
            plan.ways = vec![Way::Native, Way::Plain, Way::Prepared];
        }
        if !plan.large {
            plan.ways = vec![Way::Native, Way::Plain, Way::Prepared, Way::Step];
            plan.samples.clear();
            plan.rounds = 1;
        }
        if plan.samples.is_empty() {
            plan.samples = SAMPLES.iter().collect();
        }
        plan
    }
}

/// One program, ready in all ways that are asked for.
struct Ready {
    sample: &'static Sample,
    size: &'static str,
    input: Vec<u8>,
    plain: Plain,
    prepared: Vec<u8>,
    program: native::Program,
}

impl Ready {
    fn new(sample: &'static Sample, plan: &Plan) -> Self {
        let size = if plan.large { sample.large } else { sample.small };
        let input = Input { args: vec![size], ..Input::default() }.encode().expect("a short input");
        let prepared = prepare(sample.wasm, &limits()).expect("the program is accepted").as_bytes().to_vec();
        let program = native::Program::from_prepared(&prepared, limits()).expect("the prepared program compiles");
        let plain = Plain::new(&merge(sample.wasm).expect("the program is accepted"));
        Self { sample, size, input, plain, prepared, program }
    }

    /// User time of one run, and what the program wrote.
    fn run(&self, way: Way) -> Duration {
        match way {
            Way::Native => native(self.sample, self.size),
            Way::Wasmtime => wasmtime(self.sample, self.size),
            Way::Plain => timed(|| {
                self.plain.run(&self.input);
            }),
            Way::Prepared => timed(|| {
                let task = conun_vm::Task { input: self.input.clone().into(), fuel_limit: MAX_FUEL };
                let done = self.program.execute(&task).expect("this machine can execute it");
                assert_eq!(done.outcome, Outcome::Ok { exit_code: 0 }, "{}", self.sample.name);
            }),
            Way::Step => timed(|| {
                let limits = limits();
                let done = machine::run(&self.prepared, &self.input, MAX_FUEL, limits.output_bytes);
                let done = done.expect("a prepared module");
                assert_eq!(done.outcome, Outcome::Ok { exit_code: 0 }, "{}", self.sample.name);
            }),
        }
    }
}

fn limits() -> Limits {
    Limits::default()
}

fn timed(run: impl FnOnce()) -> Duration {
    let begun = clock::own();
    run();
    clock::own() - begun
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn native(sample: &Sample, size: &str) -> Duration {
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}", sample.name));
    if !binary.exists() {
        let source = folder().join("programs").join(format!("{}.c", sample.name));
        let flags = ["-std=c11", "-O2", "-ffp-contract=off", "-o"];
        let built = Command::new("cc").args(flags).args([&binary, &source]).arg("-lm").status();
        assert!(built.expect("a C compiler").success(), "cc builds {}", sample.name);
    }
    let begun = clock::children();
    let done = Command::new(&binary).arg(size).stdout(Stdio::null()).status();
    assert!(done.expect("what cc has built runs").success(), "{} succeeds natively", sample.name);
    clock::children() - begun
}

fn wasmtime(sample: &Sample, size: &str) -> Duration {
    let module = folder().join("programs").join(format!("{}.wasm", sample.name));
    let done = Command::new("python3").arg(folder().join("benches/in_wasmtime.py")).arg(module).arg(size).output();
    let done = done.expect("python3");
    assert!(done.status.success(), "{}: {}", sample.name, String::from_utf8_lossy(&done.stderr));
    let seconds = String::from_utf8_lossy(&done.stdout).trim().parse().expect("in_wasmtime.py prints seconds");
    Duration::from_secs_f64(seconds)
}

fn main() {
    let plan = Plan::from_args();
    let ready: Vec<_> = plan.samples.iter().map(|sample| Ready::new(sample, &plan)).collect();
    let mut least: HashMap<(&str, Way), Duration> = HashMap::new();
    for round in 0..plan.rounds {
        for program in &ready {
            for &way in plan.ways.iter().filter(|&&way| round == 0 || way != Way::Step) {
                let time = program.run(way);
                let best = least.entry((program.sample.name, way)).or_insert(time);
                *best = time.min(*best);
            }
        }
    }
    // Less than a tick of the clock tells nothing.
    if plan.large {
        report(&plan, &least);
    }
}

#[expect(clippy::print_stdout, reason = "the table is the result")]
fn report(plan: &Plan, least: &HashMap<(&str, Way), Duration>) {
    let ratios: Vec<_> = RATIOS.iter().filter(|r| plan.ways.contains(&r.1) && plan.ways.contains(&r.2)).collect();
    print!("{:<9}", "program");
    for (name, _) in Way::ALL.iter().filter(|(_, way)| plan.ways.contains(way)) {
        print!(" {:>11}", format!("{name} s"));
    }
    ratios.iter().for_each(|ratio| print!(" {:>17}", ratio.0));
    println!();
    let mut columns = vec![Vec::new(); ratios.len()];
    for sample in &plan.samples {
        print!("{:<9}", sample.name);
        for (_, way) in Way::ALL.iter().filter(|(_, way)| plan.ways.contains(way)) {
            print!(" {:>11.3}", least[&(sample.name, *way)].as_secs_f64());
        }
        for (column, (_, above, below, ..)) in columns.iter_mut().zip(&ratios) {
            let ratio = least[&(sample.name, *above)].as_secs_f64() / least[&(sample.name, *below)].as_secs_f64();
            column.push(ratio);
            print!(" {ratio:>17.3}");
        }
        println!();
    }
    for (column, (name, _, _, mean_goal, worst_goal)) in columns.iter().zip(&ratios) {
        let mean = (column.iter().map(|ratio| ratio.ln()).sum::<f64>() / column.len() as f64).exp();
        let worst = column.iter().copied().fold(0.0, f64::max);
        println!("{name}: geometric mean {mean:.3} (goal {mean_goal}), worst {worst:.3} (goal {worst_goal})");
    }
}
