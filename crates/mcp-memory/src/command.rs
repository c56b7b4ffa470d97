//! What the program does besides serving: a graph comes in, or goes out.

use std::io::{BufReader, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use types::{SystemClock, TenantId};

use crate::{Config, jsonl, store};

/// A knowledge graph that agents remember by
#[derive(Debug, Parser)]
#[command(name = "mcp-memory", version)]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// A TOML file; sections of other services are skipped
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Whose graph; the configured tenant's when absent
    #[arg(long, global = true)]
    tenant: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Add what a file of the reference memory server has
    Import { file: PathBuf },
    /// Write a graph as the reference memory server keeps it
    Export {
        /// Standard output when absent
        file: Option<PathBuf>,
    },
}

/// Tells whether the command line asks for something besides serving.
#[must_use]
pub fn is_command() -> bool {
    std::env::args_os().nth(1).is_some_and(|first| first == "import" || first == "export")
}

/// Does what the command line asks for, and returns the exit code: 0 done, 1 failed, 2 wrong usage.
pub async fn run_command() -> ExitCode {
    runtime::process::exit("mcp-memory", run(Cli::parse()).await)
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let (_, config): (runtime::process::Process, Config) =
        runtime::config::load_section("mcp_memory", cli.config.as_deref())?;
    let own = config.check()?;
    let tenant = cli.tenant.map(TenantId::new).transpose().context("--tenant")?.unwrap_or(own);
    let store = store::open(&config, Arc::new(SystemClock)).await?;
    match cli.what {
        What::Import { file } => {
            let place = || file.display().to_string();
            let lines = BufReader::new(std::fs::File::open(&file).with_context(place)?);
            let new = jsonl::import(store.as_ref(), &tenant, lines).await.with_context(place)?;
            println!(
                "{} entities, {} observations, {} relations are new; {} dangling relations left out",
                new.entities, new.observations, new.relations, new.dangling
            );
        }
        What::Export { file: None } => {
            jsonl::export(store.as_ref(), &tenant, std::io::stdout().lock()).await?;
        }
        What::Export { file: Some(file) } => {
            let place = || file.display().to_string();
            let mut to = std::io::BufWriter::new(std::fs::File::create(&file).with_context(place)?);
            jsonl::export(store.as_ref(), &tenant, &mut to).await?;
            to.flush().with_context(place)?;
        }
    }
    Ok(())
}
