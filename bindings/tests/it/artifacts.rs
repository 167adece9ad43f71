//! The checked-in artifacts belong to the checked-in sources.

use std::path::Path;

use alloy::primitives::{B256, hex, keccak256};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn artifact(name: &str) -> Value {
    let path = root().join("bindings/artifacts").join(name).with_extension("json");
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

const CONTRACTS: [&str; 9] = [
    "ConunToken",
    "Deployment",
    "Disputes",
    "Escrow",
    "JobRegistry",
    "JobRules",
    "ProviderRegistry",
    "ReplicaRegistry",
    "Reputation",
];

#[test]
fn artifacts_were_compiled_from_the_sources_on_disk() {
    for name in CONTRACTS {
        let artifact = artifact(name);
        let sources = artifact["sources"].as_object().unwrap();
        assert!(sources.contains_key(&format!("contracts/{name}.sol")), "{name} lacks its own source");
        for (path, hash) in sources {
            let file = root().join(path);
            // Libraries come from npm; without `npm ci` only the project's own sources can be compared.
            if path.starts_with("node_modules/") && !root().join("node_modules").exists() {
                continue;
            }
            let content = std::fs::read(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
            let expected: B256 = hash.as_str().unwrap().parse().unwrap();
            assert_eq!(
                keccak256(content),
                expected,
                "{path} changed since {name} was compiled: run `cargo run -p conun-scripts -- compile`"
            );
        }
    }
}

#[test]
fn every_contract_fits_the_size_limits_of_eip_170_and_eip_3860() {
    for name in CONTRACTS {
        let artifact = artifact(name);
        let size = |kind: &str| hex::decode(artifact[kind]["object"].as_str().unwrap()).unwrap().len();
        assert!((1..=24_576).contains(&size("deployedBytecode")), "{name}: {} bytes of code", size("deployedBytecode"));
        assert!((1..=49_152).contains(&size("bytecode")), "{name}: {} bytes of init code", size("bytecode"));
    }
}
