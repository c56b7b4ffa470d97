//! `baton import`: our configuration from that of another gateway, and what it cannot say.

mod draft;
mod litellm;
mod price;
mod servers;
mod tensorzero;

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::{Common, Failure};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Whose configuration is read.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Source {
    /// LiteLLM's proxy: config.yaml
    Litellm,
    /// TensorZero's gateway: tensorzero.toml
    Tensorzero,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Imported {
    /// Our configuration, in TOML.
    config: String,
    left_out: Vec<LeftOut>,
}

/// A setting that our configuration does not hold, or holds otherwise.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct LeftOut {
    /// Where it stands in the source.
    path: String,
    /// Never with its value, which may be a secret.
    why: String,
}

pub(crate) fn run(
    common: &Common,
    source: Source,
    file: &Path,
    output: Option<&PathBuf>,
) -> Result<(), Failure> {
    let text = read(file)?;
    let imported = match source {
        Source::Litellm => litellm::import(&text),
        Source::Tensorzero => tensorzero::import(&text),
    };
    let imported = imported.with_context(|| file.display().to_string())?;
    if let Some(output) = output {
        write_new(output, &imported.config)?;
    }
    if common.json {
        println!("{}", serde_json::to_string(&imported).context("cannot write JSON")?);
        return Ok(());
    }
    if output.is_none() {
        print!("{}", imported.config);
    }
    for LeftOut { path, why } in &imported.left_out {
        eprintln!("{path}: {why}");
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let told = || format!("cannot read {}", file.display());
    let opened = File::open(file).with_context(told)?;
    opened.take(LARGEST + 1).read_to_string(&mut text).with_context(told)?;
    if text.len() as u64 > LARGEST {
        bail!("{} has more than {LARGEST} bytes", file.display());
    }
    Ok(text)
}

/// Writes a file that is not there yet.
fn write_new(file: &Path, text: &str) -> anyhow::Result<()> {
    let told = || format!("cannot write {}", file.display());
    let mut opened =
        OpenOptions::new().write(true).create_new(true).open(file).with_context(told)?;
    opened.write_all(text.as_bytes()).with_context(told)
}

/// Returns the path of `key` in what stands at `path`.
fn at(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*');
    let shown = match !key.is_empty() && key.chars().all(bare) {
        true => key.to_owned(),
        false => format!("{key:?}"),
    };
    match path.is_empty() {
        true => shown,
        false => format!("{path}.{shown}"),
    }
}

/// Returns the mapping at `key`; an absent one, or what is no mapping, has no entries.
fn table<'a>(
    of: &'a Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    of.get(key).and_then(Value::as_object).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use runtime::metrics::Metrics;

    use super::*;
    use crate::node::Config;

    /// Reads what was imported as `up --config` does; the router takes it unless a price is to be
    /// filled in.
    pub(super) async fn accepted(imported: &Imported) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &imported.config).unwrap();
        let config = Config::load(Some(file.path()), None)
            .unwrap_or_else(|fault| panic!("{fault:#}\n{}", imported.config));
        let peers = router::Peers::remote(&config.router.peers).unwrap();
        let data = tempfile::tempdir().unwrap();
        let mut taken = config.router.clone();
        taken.spool = data.path().join("spool");
        taken.responses.store = String::new().into();
        match router::server(taken, peers, &Metrics::default()).await.map(drop) {
            // What has none at its maker's own address may be in the router's table.
            Ok(_) => assert!(
                !imported.config.contains("TODO") || imported.config.contains("https://"),
                "{}",
                imported.config
            ),
            Err(fault) => {
                let told = format!("{fault:#}");
                assert!(told.contains("its cost could not be counted"), "{told}");
                assert!(imported.config.contains("TODO"), "{}", imported.config);
            }
        }
        config
    }

    /// Returns why the setting at `path` was left out.
    pub(super) fn why<'a>(imported: &'a Imported, path: &str) -> &'a str {
        let found = imported.left_out.iter().find(|left| left.path == path);
        &found.unwrap_or_else(|| panic!("{path} is not in {:#?}", imported.left_out)).why
    }

    fn common(json: bool) -> Common {
        Common { data: None, config: None, json, print_config: false }
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten() {
        let place = tempfile::tempdir().unwrap();
        let (source, output) = (place.path().join("a.toml"), place.path().join("b.toml"));
        std::fs::write(&source, "[models]").unwrap();
        let import = || run(&common(false), Source::Tensorzero, &source, Some(&output));
        import().unwrap();
        let first = std::fs::read_to_string(&output).unwrap();
        let fault = format!("{:?}", import().unwrap_err());
        assert!(fault.contains("code: 1") && fault.contains("b.toml: File exists"), "{fault}");
        assert_eq!(std::fs::read_to_string(&output).unwrap(), first);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_failure_in_one_line() {
        let place = tempfile::tempdir().unwrap();
        let (none, large) = (place.path().join("none.yaml"), place.path().join("large.yaml"));
        let binary = place.path().join("binary.yaml");
        std::fs::write(&large, " ".repeat(usize::try_from(LARGEST).unwrap() + 1)).unwrap();
        std::fs::write(&binary, [0xff, 0x00]).unwrap();
        for (file, told) in [
            (&none, "none.yaml: No such file"),
            (&large, "more than 4194304 bytes"),
            (&binary, "binary.yaml: stream did not contain valid UTF-8"),
        ] {
            let fault = run(&common(true), Source::Litellm, file, None).unwrap_err();
            let fault = format!("{fault:?}");
            assert!(fault.contains("code: 1") && fault.contains(told), "{fault}");
        }
    }

    #[test]
    fn a_path_shows_keys_as_they_are_or_quoted() {
        assert_eq!(at("a.b", "c"), "a.b.c");
        assert_eq!(at("", "gpt-4o"), "gpt-4o");
        assert_eq!(at("a", "b.c\n"), "a.\"b.c\\n\"");
    }
}
