//! The programs of this folder, for tests and benchmarks, which include this file by its path.

/// One program with two sizes of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Name of the `.c` and the `.wasm` file, without the extension.
    pub(crate) name: &'static str,
    /// What it is made of: a WASI command.
    pub(crate) wasm: &'static [u8],
    /// Size argument for tests: some milliseconds natively.
    pub(crate) small: &'static str,
    /// Size argument for benchmarks: 0.1 to 1 s natively.
    pub(crate) large: &'static str,
}

macro_rules! samples {
    ($($name:literal $small:literal $large:literal,)*) => {
        /// Every program, in alphabetical order.
        pub(crate) const SAMPLES: &[Sample] = &[$(Sample {
            name: $name,
            wasm: include_bytes!(concat!($name, ".wasm")),
            small: $small,
            large: $large,
        }),*];
    };
}

samples! {
    "chess" "3" "4",
    "compress" "64" "8192",
    "fft" "12" "20",
    "forth" "1" "30",
    "grep" "32" "2048",
    "hash" "128" "65536",
    "image" "160" "2000",
    "json" "300" "40000",
    "matrix" "64" "700",
    "nbody" "500" "50000",
    "neural" "10" "1500",
    "sort" "20000" "1500000",
    "trees" "5000" "400000",
    "words" "128" "65536",
}
