//! Where the Solidity compiler comes from.

use std::path::{Path, PathBuf};

use eyre::{Context, ensure};
use foundry_compilers::solc::Solc;

/// The version that the contracts' pragma names.
const VERSION: (u64, u64, u64) = (0, 8, 37);

/// Finds solc: `given` (flag or `$SOLC`), `solc` on PATH, npm's solc below `root`, svm where that feature is built in.
pub(crate) fn find(root: &Path, given: Option<PathBuf>) -> eyre::Result<Solc> {
    if let Some(path) = given {
        return open(&path);
    }
    if let Some(solc) = on_path().and_then(|path| open(&path).ok()) {
        return Ok(solc);
    }
    if root.join("node_modules/solc").is_dir() {
        return open(&root.join("scripts/solc"));
    }
    #[cfg(feature = "svm")]
    return Ok(Solc::find_or_install(&semver_of(VERSION))?);
    #[cfg(not(feature = "svm"))]
    eyre::bail!(
        "no solc {}.{}.{} found: run `npm ci` here, or give one with --solc PATH",
        VERSION.0,
        VERSION.1,
        VERSION.2
    )
}

#[cfg(feature = "svm")]
fn semver_of((major, minor, patch): (u64, u64, u64)) -> semver::Version {
    semver::Version::new(major, minor, patch)
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("solc")).find(|file| file.is_file())
}

fn open(path: &Path) -> eyre::Result<Solc> {
    let solc = Solc::new(path).wrap_err_with(|| format!("{} is no solc", path.display()))?;
    let found = (solc.version.major, solc.version.minor, solc.version.patch);
    ensure!(
        found == VERSION,
        "{} is solc {}, the contracts need {}.{}.{}",
        path.display(),
        solc.version,
        VERSION.0,
        VERSION.1,
        VERSION.2
    );
    Ok(solc)
}
