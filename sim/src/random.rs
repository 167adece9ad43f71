//! Chance under one seed, the same on every machine: ChaCha, and logarithms and powers that no system library computes.

use chacha20::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A stream of random numbers.
#[derive(Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream of that name under a seed. Streams do not depend on each other: who draws more from one changes no other.
    pub fn new(seed: u64, stream: &str, number: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("CONUN simulator stream v1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(&number.to_le_bytes());
        hasher.update(stream.as_bytes());
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 32 random bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// From 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        // 53 bits are what a double holds.
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `true` with that probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// From 0 to below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.unit() * end as f64) as usize
    }

    /// Time to the next of events that come independently, `mean` apart on average.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -libm::log(1.0 - self.unit()) * mean
    }

    pub(crate) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(2.0 * std::f64::consts::PI * self.unit())
    }
}

/// How a quantity is distributed: a number, or one of the tables below.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// `{ uniform = [from, to] }`.
    Uniform(f64, f64),
    /// `{ exponential = mean }`.
    Exponential(f64),
    /// `{ log-normal = { median = 1, sigma = 0.5 } }`.
    LogNormal {
        /// Half are below.
        median: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// `{ pareto = { least = 1, shape = 2 } }`.
    Pareto {
        /// None are below.
        least: f64,
        /// The smaller, the longer the tail.
        shape: f64,
    },
    /// `{ choice = [1, 2, 2, 8] }`.
    Choice(Vec<f64>),
    /// Always the same.
    #[serde(untagged)]
    Constant(f64),
}

/// The tables, as a scenario writes them.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Table {
    Uniform(f64, f64),
    Exponential(f64),
    LogNormal(LogNormal),
    Pareto(Pareto),
    Choice(Vec<f64>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogNormal {
    median: f64,
    sigma: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pareto {
    least: f64,
    shape: f64,
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Distribution;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number, or { uniform = [from, to] }, { exponential = mean }, { log-normal = .. }, { pareto = .. }, { choice = [..] }")
            }

            fn visit_f64<E>(self, value: f64) -> Result<Distribution, E> {
                Ok(Distribution::Constant(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Distribution, E> {
                Ok(Distribution::Constant(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Distribution, E> {
                Ok(Distribution::Constant(value as f64))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Distribution, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                let (found, good) = match table {
                    Table::Uniform(from, to) => (Distribution::Uniform(from, to), from <= to),
                    Table::Exponential(mean) => (Distribution::Exponential(mean), mean >= 0.0),
                    Table::LogNormal(LogNormal { median, sigma }) => {
                        (Distribution::LogNormal { median, sigma }, median > 0.0 && sigma >= 0.0)
                    }
                    Table::Pareto(Pareto { least, shape }) => {
                        (Distribution::Pareto { least, shape }, least > 0.0 && shape > 0.0)
                    }
                    Table::Choice(choice) => {
                        let some = !choice.is_empty();
                        (Distribution::Choice(choice), some)
                    }
                };
                if good {
                    Ok(found)
                } else {
                    Err(A::Error::custom(
                        "no such distribution: uniform runs upwards, means and shapes are positive, a choice has members",
                    ))
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Distribution {
    /// One draw; never below 0.
    pub fn draw(&self, random: &mut Random) -> f64 {
        let drawn = match self {
            Self::Constant(value) => *value,
            Self::Uniform(from, to) => from + (to - from) * random.unit(),
            Self::Exponential(mean) => random.exponential(*mean),
            Self::LogNormal { median, sigma } => median * libm::exp(sigma * random.normal()),
            Self::Pareto { least, shape } => least / libm::pow(1.0 - random.unit(), 1.0 / shape),
            Self::Choice(choice) => choice.get(random.below(choice.len())).copied().unwrap_or_default(),
        };
        drawn.max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct One {
        x: Distribution,
    }

    fn read(text: &str) -> Result<Distribution, toml::de::Error> {
        toml::from_str::<One>(&format!("x = {text}")).map(|one| one.x)
    }

    #[test]
    fn streams_are_their_own() {
        let draw = |stream, number| Random::new(7, stream, number).bits();
        assert_eq!(draw("a", 0), draw("a", 0));
        assert_ne!(draw("a", 0), draw("a", 1));
        assert_ne!(draw("a", 0), draw("b", 0));
        assert_ne!(draw("a", 0), Random::new(8, "a", 0).bits());
        // The same on every machine: it is what replays a seed.
        assert_eq!(draw("a", 0), 886_587_758_680_351_996);
    }

    #[test]
    fn means_are_what_they_say() {
        let mut random = Random::new(1, "means", 0);
        for (text, mean) in [
            ("3", 3.0),
            ("2.5", 2.5),
            ("{ uniform = [1, 3] }", 2.0),
            ("{ exponential = 4 }", 4.0),
            ("{ log-normal = { median = 1.0, sigma = 0.5 } }", libm::exp(0.125)),
            ("{ pareto = { least = 1, shape = 3 } }", 1.5),
            ("{ choice = [1, 1, 4] }", 2.0),
        ] {
            let distribution = read(text).unwrap();
            let found = (0..20_000).map(|_| distribution.draw(&mut random)).sum::<f64>() / 20_000.0;
            assert!((found - mean).abs() < mean * 0.05, "{text}: {found}");
        }
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        for (text, says) in [
            ("\"fast\"", "expected a number"),
            ("{ gauss = 1 }", "unknown variant `gauss`"),
            ("{ uniform = [3, 1] }", "uniform runs upwards"),
            ("{ pareto = { least = 1, shape = 2, mean = 3 } }", "unknown field `mean`"),
            ("{ choice = [] }", "a choice has members"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
