//! The scenarios that come with the simulator.

use crate::{Scenario, ScenarioError};

macro_rules! library {
    ($($name:literal),* $(,)?) => {
        /// Name and text of each scenario that comes along, in alphabetical order.
        pub const LIBRARY: &[(&str, &str)] = &[$(($name, include_str!(concat!("../scenarios/", $name, ".toml")))),*];
    };
}

library!["market"];

/// The scenario of that name, if one comes along.
///
/// # Errors
/// If its file is no scenario.
pub fn named(name: &str) -> Option<Result<Scenario, ScenarioError>> {
    let (name, text) = LIBRARY.iter().find(|(known, _)| *known == name)?;
    Some(Scenario::parse(text, name, &format!("scenarios/{name}.toml")))
}
