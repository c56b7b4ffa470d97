//! The files.

use std::path::{Path, PathBuf};

/// A provider's answer as it stands in a file: lines of `name: value`, an empty line, the raw body.
#[derive(Debug, Clone)]
pub(crate) struct Fixture {
    pub(crate) path: PathBuf,
    pub(crate) status: u16,
    pub(crate) content_type: String,
    /// More headers of the answer, as they are sent.
    pub(crate) headers: String,
    /// The connection breaks behind the body, instead of ending.
    pub(crate) breaks: bool,
    pub(crate) body: Vec<u8>,
}

impl Fixture {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let at = bytes.windows(2).position(|two| two == b"\n\n").expect("an empty line");
        let mut fixture = Self {
            path: path.to_owned(),
            status: 200,
            content_type: "application/json".to_owned(),
            headers: String::new(),
            breaks: false,
            body: bytes[at + 2..].to_owned(),
        };
        for line in std::str::from_utf8(&bytes[..at]).unwrap().lines() {
            match line.split_once(": ").expect("name: value") {
                ("status", status) => fixture.status = status.parse().unwrap(),
                ("content-type", kind) => fixture.content_type = kind.to_owned(),
                ("end", "break") => fixture.breaks = true,
                ("note", _) => {}
                ("header", line) => fixture.headers.push_str(&format!("{line}\r\n")),
                (name, _) => panic!("{}: {name:?} means nothing", path.display()),
            }
        }
        fixture
    }

    /// Tells whether it answers a request for a stream.
    pub(crate) fn is_stream(&self) -> bool {
        self.name().starts_with("stream")
    }

    pub(crate) fn name(&self) -> String {
        self.path.file_stem().unwrap().to_str().unwrap().to_owned()
    }
}

/// Returns the files below `tests/golden/` that end so, by name.
pub(crate) fn files(directory: &str, ending: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(directory);
    let entries = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    files.sort();
    files
}

/// Compares with what stands beside `file`.
pub(crate) fn compare(file: &Path, told: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(file.parent().unwrap());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let name = file.file_stem().unwrap().to_str().unwrap();
    settings.bind(|| insta::assert_snapshot!(name, told));
}
