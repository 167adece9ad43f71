//! A copy of the tree, patched: contracts are compiled one by one, everything else is built as a whole.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{Result, bug::Bug};

fn failed(what: &str, error: impl std::fmt::Display) -> String {
    format!("{what}: {error}")
}

/// What a program writes to its standard output, if it succeeds.
fn output(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&name, error))?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().map_err(|error| failed(&name, error))?;
    // A program that needs no input closes it.
    let _ = writer.join();
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failed(&name, String::from_utf8_lossy(&output.stderr)))
}

/// Applies a patch to the copy at `tree`.
fn apply(bug: &Bug, tree: &Path) -> Result<()> {
    let above = tree.parent().unwrap_or(tree);
    // The copy may lie in the repository, and is none of its files.
    let mut git = Command::new("git");
    git.env("GIT_CEILING_DIRECTORIES", above).current_dir(tree).args(["apply", "--whitespace=nowarn"]).arg(&bug.path);
    output(&mut git, b"").map(drop)
}

/// Fails if a patch does not fit the tree at `root` any more.
pub(crate) fn check(bug: &Bug, root: &Path) -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["apply", "--check", "--whitespace=nowarn"]).arg(&bug.path);
    output(&mut git, b"").map(drop)
}

fn copy(root: &Path, tree: &Path, file: &str) -> Result<()> {
    let (from, to) = (root.join(file), tree.join(file));
    let Ok(content) = std::fs::read(&from) else { return Ok(()) };
    // What has not changed keeps its time, so that it is not built again.
    if std::fs::read(&to).is_ok_and(|found| found == content) {
        return Ok(());
    }
    std::fs::create_dir_all(to.parent().unwrap_or(tree)).map_err(|error| failed(file, error))?;
    std::fs::write(&to, content).map_err(|error| failed(file, error))?;
    // Programs stay programs.
    let mode = std::fs::metadata(&from).map_err(|error| failed(file, error))?.permissions();
    std::fs::set_permissions(&to, mode).map_err(|error| failed(file, error))
}

/// Compiles the contracts that a bug changes, as the built-in ones are compiled, into artifacts in `folder`.
pub(crate) fn compile(root: &Path, bug: &Bug, folder: &Path) -> Result<()> {
    let read = |path: &Path| -> Result<Value> {
        let text = std::fs::read_to_string(path).map_err(|error| failed(&path.display().to_string(), error))?;
        serde_json::from_str(&text).map_err(|error| failed(&path.display().to_string(), error))
    };
    let tree = tempfile::tempdir().map_err(|error| error.to_string())?;
    let artifacts = root.join("bindings/artifacts");
    let mut touched = Vec::new();
    for entry in std::fs::read_dir(&artifacts).map_err(|error| failed("bindings/artifacts", error))?.flatten() {
        let artifact = read(&entry.path())?;
        let sources: Vec<_> = artifact["sources"].as_object().into_iter().flat_map(|map| map.keys().cloned()).collect();
        if sources.iter().any(|source| bug.files.contains(source)) {
            sources.iter().try_for_each(|source| copy(root, tree.path(), source))?;
            touched.push((artifact["contractName"].as_str().unwrap_or_default().to_owned(), sources));
        }
    }
    if touched.is_empty() {
        return Err(format!("{} changes no contract that is deployed", bug.name));
    }
    apply(bug, tree.path())?;
    for (name, sources) in touched {
        let content = |source: &String| {
            let text = std::fs::read_to_string(tree.path().join(source)).map_err(|error| failed(source, error))?;
            Ok((source.clone(), json!({ "content": text })))
        };
        let sources = sources.iter().map(content).collect::<Result<BTreeMap<_, _>>>()?;
        let file = format!("contracts/{name}.sol");
        let mut settings = read(&artifacts.join("compiler.json"))?["settings"].clone();
        settings["outputSelection"] = json!({ &file: { &name: ["evm.bytecode.object"] } });
        let input = json!({ "language": "Solidity", "sources": sources, "settings": settings }).to_string();
        let answer = output(Command::new("node").arg(root.join("scripts/solc")), input.as_bytes())?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| failed("scripts/solc", error))?;
        let bytecode = &answer["contracts"][&file][&name]["evm"]["bytecode"]["object"];
        if bytecode.as_str().is_none_or(str::is_empty) {
            return Err(format!("{} does not compile: {}", bug.name, answer["errors"]));
        }
        let artifact = json!({ "contractName": name, "bytecode": { "object": bytecode } }).to_string();
        std::fs::write(folder.join(name).with_extension("json"), artifact).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Where this program was built: the folder that cargo calls the target directory.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    program.ancestors().nth(3).map(Path::to_owned).ok_or_else(|| "this program was not built by cargo".to_owned())
}

/// Builds this program from a copy of the tree with the bug in it. The copy and what was built of it are kept for the next bug.
pub(crate) fn build(root: &Path, bug: &Bug) -> Result<PathBuf> {
    let target = target()?;
    let (tree, built) = (target.join("long/bugs/tree"), target.join("long/bugs/target"));
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let files = String::from_utf8(output(&mut git, b"")?).map_err(|error| failed("a file's name", error))?;
    files.split('\0').filter(|file| !file.is_empty()).try_for_each(|file| copy(root, &tree, file))?;
    if !built.exists() {
        // What others have built need not be built again.
        std::fs::create_dir_all(&built).map_err(|error| failed("target", error))?;
        let mut copy = Command::new("cp");
        output(copy.args(["-a", "--reflink=auto"]).arg(target.join("release")).arg(&built), b"")?;
    }
    apply(bug, &tree)?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&tree).env("CARGO_TARGET_DIR", &built);
    // A bug may leave something unused.
    cargo.env_remove("RUSTC_WORKSPACE_WRAPPER").env_remove("CLIPPY_ARGS");
    cargo.args(["test", "--release", "--workspace", "--test", "bugs", "--no-run", "--message-format=json"]);
    // Our own code is built anew for each bug, and runs a few times: it is not worth optimising.
    cargo.env("CARGO_INCREMENTAL", "1");
    for package in ["agent", "bindings", "chain", "sim"] {
        cargo.arg(format!("--config=profile.release.package.conun-{package}.opt-level=0"));
    }
    let messages = output(&mut cargo, b"");
    // The tree is as it was for the next one.
    bug.files.iter().try_for_each(|file| copy(root, &tree, file))?;
    let messages = String::from_utf8_lossy(&messages?).into_owned();
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs = messages.filter(|message| message["target"]["name"] == "bugs");
    let program = programs.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?))).next_back();
    program.ok_or_else(|| "cargo built no such program".to_owned())
}
