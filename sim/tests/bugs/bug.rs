//! A planted bug: a patch with a header.

use std::path::{Path, PathBuf};

use crate::Result;

/// A planted bug.
///
/// Above its first hunk the patch says, a line each: what breaks; `Part:` of the code; `Should be noticed by:` which invariant or
/// expectation; `Scenarios:` those in which to look first, with commas between; and, for the few that the test command looks for, `Always`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bug {
    /// Name of its file.
    pub(crate) name: String,
    /// What breaks, in a sentence.
    pub(crate) what: String,
    pub(crate) part: String,
    pub(crate) noticed_by: String,
    pub(crate) scenarios: Vec<String>,
    pub(crate) always: bool,
    /// Files that it changes.
    pub(crate) files: Vec<String>,
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Bug {
    /// All bugs of a folder, in the order of their names.
    pub(crate) fn all(folder: &Path) -> Result<Vec<Self>> {
        let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Result<Self> {
        let bad = |what: &str| format!("{}: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| bad(&error.to_string()))?;
        let header: Vec<_> = text.lines().take_while(|line| !line.starts_with("diff ")).collect();
        let field = |name: &str| {
            let line = header.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.map(str::to_owned).ok_or_else(|| bad(&format!("the header has no line \"{name}: \"")))
        };
        let files = text.lines().filter_map(|line| Some(line.strip_prefix("+++ b/")?.to_owned())).collect();
        let scenarios: Vec<_> = field("Scenarios")?.split(", ").map(str::to_owned).collect();
        if let Some(unknown) = scenarios.iter().find(|name| conun_sim::named(name).is_none()) {
            return Err(bad(&format!("there is no scenario {unknown}")));
        }
        Ok(Self {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            what: header.first().ok_or_else(|| bad("it has no header"))?.to_string(),
            part: field("Part")?,
            noticed_by: field("Should be noticed by")?,
            scenarios,
            always: header.contains(&"Always"),
            files,
            path: path.to_owned(),
            text,
        })
    }

    /// Whether it changes nothing but contracts, so that nothing else has to be built.
    pub(crate) fn is_in_contracts(&self) -> bool {
        self.files.iter().all(|file| file.starts_with("contracts/"))
    }
}
