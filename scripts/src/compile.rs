//! contracts/ -> bindings/artifacts/*.json, with the settings of foundry.toml.

use std::{collections::BTreeMap, path::Path};

use eyre::{Context, ContextCompat, bail, ensure};
use foundry_compilers::{
    ProjectBuilder, ProjectPathsConfig,
    artifacts::{
        Contract, Settings, SolcLanguage,
        output_selection::{ContractOutputSelection, OutputSelection},
        remappings::Remapping,
    },
    solc::{Solc, SolcCompiler, SolcSettings},
};
use serde_json::{Value, json};

/// The contracts that are deployed.
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

/// File name to content.
pub(crate) type Artifacts = BTreeMap<String, Value>;

/// Compiles the contracts below `root`.
pub(crate) fn artifacts(root: &Path, solc: &Solc) -> eyre::Result<Artifacts> {
    let (settings, remappings) = foundry_settings(root)?;
    let paths: ProjectPathsConfig<SolcLanguage> = ProjectPathsConfig::builder()
        .sources(root.join("contracts"))
        .tests(root.join("contracts/test"))
        .lib(root.join("node_modules"))
        .remappings(remappings)
        .build_with_root(root);
    let project = ProjectBuilder::<SolcCompiler>::default()
        .paths(paths)
        .settings(settings)
        .set_offline(true)
        .set_cached(false)
        .set_no_artifacts(true)
        .build(SolcCompiler::Specific(solc.clone()))?;
    let files = CONTRACTS.map(|name| root.join("contracts").join(name).with_extension("sol"));
    let output = project.compile_files(files)?;
    if output.has_compiler_errors() {
        bail!("the contracts do not compile:\n{output}");
    }
    let output = output.into_output();
    let mut artifacts = Artifacts::new();
    let mut compiler = Value::Null;
    for name in CONTRACTS {
        let contract: &Contract = output
            .contracts
            .as_ref()
            .values()
            .find_map(|file| file.get(name)?.first())
            .map(|versioned| &versioned.contract)
            .wrap_err_with(|| format!("the compiler made no {name}"))?;
        let metadata = contract.metadata.as_ref().wrap_err("no metadata")?;
        let metadata: Value = serde_json::from_str(&metadata.raw_metadata)?;
        let evm = contract.evm.as_ref().wrap_err("no bytecode")?;
        let bytecode = evm.bytecode.as_ref().wrap_err("no bytecode")?;
        let deployed =
            evm.deployed_bytecode.as_ref().and_then(|code| code.bytecode.as_ref()).wrap_err("no runtime code")?;
        let hash = |source: &Value| source["keccak256"].clone();
        let sources = metadata["sources"].as_object().wrap_err("no sources in the metadata")?;
        artifacts.insert(
            format!("{name}.json"),
            json!({
                "contractName": name,
                "abi": contract.abi,
                "bytecode": { "object": bytecode.object },
                "deployedBytecode": { "object": deployed.object },
                "sources": sources.iter().map(|(path, source)| (path.clone(), hash(source))).collect::<BTreeMap<_, _>>(),
            }),
        );
        let mut settings = metadata["settings"].clone();
        settings.as_object_mut().wrap_err("no settings in the metadata")?.remove("compilationTarget");
        compiler = json!({ "version": metadata["compiler"]["version"], "settings": settings });
    }
    artifacts.insert("compiler.json".to_owned(), compiler);
    Ok(artifacts)
}

/// Optimizer, EVM version and remappings: foundry.toml is the one place that has them. What its compiler profile `deployed` says
/// goes before.
fn foundry_settings(root: &Path) -> eyre::Result<(SolcSettings, Vec<Remapping>)> {
    let path = root.join("foundry.toml");
    let text = std::fs::read_to_string(&path).wrap_err_with(|| format!("cannot read {}", path.display()))?;
    let config: toml::Table = text.parse()?;
    let profile = &config["profile"]["default"];
    let additional = profile.get("additional_compiler_profiles").and_then(toml::Value::as_array);
    let deployed = additional
        .into_iter()
        .flatten()
        .find(|profile| profile.get("name").and_then(toml::Value::as_str) == Some("deployed"))
        .wrap_err_with(|| format!("{} has no compiler profile `deployed`", path.display()))?;
    let get = |key: &str| deployed.get(key).or_else(|| profile.get(key));
    let mut settings = Settings::default();
    settings.optimizer.enabled = get("optimizer").and_then(toml::Value::as_bool);
    settings.optimizer.runs =
        get("optimizer_runs").and_then(toml::Value::as_integer).map(usize::try_from).transpose()?;
    settings.evm_version =
        get("evm_version").and_then(toml::Value::as_str).map(str::parse).transpose().map_err(|e| eyre::eyre!("{e}"))?;
    settings.via_ir = get("via_ir").and_then(toml::Value::as_bool);
    settings.output_selection = OutputSelection::common_output_selection([
        ContractOutputSelection::Abi.to_string(),
        "evm.bytecode.object".into(),
        "evm.deployedBytecode.object".into(),
        "metadata".into(),
    ]);
    let remappings = profile.get("remappings").and_then(toml::Value::as_array).into_iter().flatten();
    let remappings = remappings.filter_map(toml::Value::as_str).map(str::parse).collect::<Result<_, _>>()?;
    Ok((SolcSettings { settings, ..SolcSettings::default() }, remappings))
}

fn text(artifact: &Value) -> String {
    format!("{artifact:#}\n")
}

/// Writes the artifacts into `folder`.
pub(crate) fn write(folder: &Path, artifacts: &Artifacts) -> eyre::Result<()> {
    for (name, artifact) in artifacts {
        let path = folder.join(name);
        std::fs::write(&path, text(artifact)).wrap_err_with(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Fails if a file in `folder` differs from what the compiler made.
pub(crate) fn compare(folder: &Path, artifacts: &Artifacts) -> eyre::Result<()> {
    for (name, artifact) in artifacts {
        let path = folder.join(name);
        let found = std::fs::read_to_string(&path).wrap_err_with(|| format!("cannot read {}", path.display()))?;
        ensure!(
            found == text(artifact),
            "{} is stale: regenerate it with `cargo run -p conun-scripts -- compile`",
            path.display()
        );
    }
    println!("{} artifacts are current", artifacts.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_artifacts_are_byte_for_byte_what_the_compiler_makes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let solc = crate::solc::find(root, None).expect("scripts/test installs the compiler");
        compare(&root.join("bindings/artifacts"), &artifacts(root, &solc).unwrap()).unwrap();
    }

    #[test]
    fn a_changed_artifact_is_called_stale() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::from([("X.json".to_owned(), json!({ "abi": [] }))]);
        write(folder.path(), &artifacts).unwrap();
        compare(folder.path(), &artifacts).unwrap();
        std::fs::write(folder.path().join("X.json"), "{}").unwrap();
        let error = compare(folder.path(), &artifacts).unwrap_err();
        assert!(error.to_string().contains("is stale"), "{error}");
    }
}
