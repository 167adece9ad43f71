//! Writes what tasks left behind to a folder of the requester's.

use std::{
    fs,
    path::{Component, Path},
};

use conun_vm::Output;

use super::{Error, io_error};

/// Most files of one task that are written; beyond that its whole output is kept as it is.
const MAX_FILES: usize = 10_000;

/// What the outputs of a program are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Standard output and files.
    Wasi,
    /// Bytes that only the program's author understands.
    Plain,
}

impl Form {
    /// The form of a program's outputs. One that is not here was not posted from here; most are WASI programs.
    pub(super) fn of(program: Option<&[u8]>) -> Self {
        if program.is_none_or(conun_vm::uses_wasi) { Self::Wasi } else { Self::Plain }
    }
}

/// Writes the standard output of task `index` to `out/INDEX` and its files to `out/INDEX.files/`. An output without that form, or
/// with more files than anybody wants, goes to `out/INDEX` as it is.
pub(super) fn keep(out: &Path, index: u32, form: Form, output: &[u8]) -> Result<(), Error> {
    let path = out.join(index.to_string());
    let folder = out.join(format!("{index}.files"));
    // What an earlier result left, one that a re-org has taken back.
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io_error(&folder)(error).into()),
        _ => {}
    }
    let output = match form {
        // That of a failed task.
        _ if output.is_empty() => Output::default(),
        Form::Plain => Output { stdout: output, files: Vec::new() },
        Form::Wasi => match Output::decode(output) {
            Ok(found) if found.files.len() <= MAX_FILES && found.files.iter().all(|(name, _)| is_plain(name)) => found,
            _ => {
                tracing::warn!(target: "conun::requester", task = index, "its output is kept as it is: no files are written");
                Output { stdout: output, files: Vec::new() }
            }
        },
    };
    fs::write(&path, output.stdout).map_err(io_error(&path))?;
    for (name, content) in output.files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).map_err(io_error(parent))?;
        fs::write(&path, content).map_err(io_error(&path))?;
    }
    Ok(())
}

/// Whether a name stays below the folder that it is joined to, on this system, too: decoding has refused `..`, but knows nothing
/// of drives and backslashes.
fn is_plain(name: &str) -> bool {
    !name.contains('\\') && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(form: Form, output: &[u8]) -> (tempfile::TempDir, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), 7, form, output).unwrap();
        let stdout = fs::read(folder.path().join("7")).unwrap();
        (folder, stdout)
    }

    #[test]
    fn files_go_below_the_tasks_own_folder() {
        let output = Output { stdout: b"text", files: vec![("a/b.txt", b"1"), ("c", b"2")] }.encode();
        let (folder, stdout) = kept(Form::Wasi, &output);
        assert_eq!(stdout, b"text");
        assert_eq!(fs::read(folder.path().join("7.files/a/b.txt")).unwrap(), b"1");
        // Another result replaces all of it.
        let output = Output { stdout: b"", files: vec![("d", b"3")] }.encode();
        keep(folder.path(), 7, Form::Wasi, &output).unwrap();
        let names: Vec<_> =
            fs::read_dir(folder.path().join("7.files")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["d"]);
        keep(folder.path(), 7, Form::Wasi, b"").unwrap();
        assert!(!folder.path().join("7.files").exists(), "a failed task has none");
        assert_eq!(fs::read(folder.path().join("7")).unwrap(), b"");
    }

    #[test]
    fn an_output_without_form_is_kept_as_it_is() {
        assert_eq!(kept(Form::Plain, &Output { stdout: b"x", files: Vec::new() }.encode()).1.len(), 17);
        assert_eq!(kept(Form::Wasi, b"no footer").1, b"no footer");
        let names: Vec<String> = (0..=MAX_FILES).map(|index| format!("{index:06}")).collect();
        let many = Output { stdout: b"", files: names.iter().map(|name| (name.as_str(), &b""[..])).collect() }.encode();
        let (folder, stdout) = kept(Form::Wasi, &many);
        assert_eq!(stdout, many);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for name in ["../x", "/x", "a/../../x", "a\\..\\x", "./x"] {
            assert!(!is_plain(name) || name == "./x", "{name}");
            let output = Output { stdout: b"", files: vec![(name, b"1")] }.encode();
            let (folder, stdout) = kept(Form::Wasi, &output);
            assert_eq!(stdout, output, "{name}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{name}");
        }
    }
}
