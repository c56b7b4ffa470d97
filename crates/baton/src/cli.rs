//! The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by budget or policy,
//! 4 not reachable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::commands::budget::{self, Budget};
use crate::commands::chat::{self, Chat};
use crate::commands::client::Server;
use crate::commands::eval::{self, Eval};
use crate::commands::import::Source;
use crate::commands::keys::{self, Keys};
use crate::commands::tools::{self, Tools};
use crate::commands::{ask, audit, import, ingest, maintenance, up};

/// A self-hosted multi-agent RAG orchestrator.
#[derive(Debug, clap::Parser)]
#[command(name = "baton", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Where data lies
    #[arg(long, global = true)]
    pub data: Option<PathBuf>,
    /// A TOML file; see docs/configuration.md
    #[arg(long, global = true)]
    pub config: Option<PathBuf>,
    /// Print one JSON object on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Print the configuration without secrets and exit
    #[arg(long, global = true)]
    pub print_config: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run every service in this process until Ctrl-C
    Up {
        /// Where to serve HTTP
        #[arg(long)]
        listen: Option<SocketAddr>,
        /// Where to serve probes and metrics
        #[arg(long)]
        operations: Option<SocketAddr>,
    },
    /// Answer a question from a folder of documents, with citations
    Ask {
        /// The question
        question: String,
        /// A folder of documents, ingested first
        #[arg(long)]
        docs: Option<PathBuf>,
        /// A route or a model
        #[arg(long, default_value = "auto")]
        route: String,
    },
    /// Talk to a running system's models, which may call its tools
    Chat(Chat),
    /// Send a folder's documents to a running system, or have it fetch one from an address
    Ingest {
        /// The folder, whose ignore files are honoured; or an address, such as https://example.com/guide
        folder: PathBuf,
        /// Where they go; made when it is not there
        #[arg(long)]
        collection: Option<String>,
        /// Whatever reads them may not leave the machine
        #[arg(long)]
        private: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Find passages in a running system's documents
    Search {
        /// What is asked
        query: String,
        /// At most so many
        #[arg(long, default_value_t = 5)]
        top_k: u32,
        /// Whose documents, instead of the default ones
        #[arg(long)]
        collection: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Measure the search on your own judged queries
    Eval(Eval),
    /// Look at the audit log of private calls
    Audit {
        #[command(subcommand)]
        command: Audit,
    },
    /// Look at limits and spend of a running system, and change them
    Budget {
        #[command(subcommand)]
        command: Budget,
    },
    /// Make, list and end API keys of a running system
    Keys {
        #[command(subcommand)]
        command: Keys,
    },
    /// List and call tools of a running system, and decide on their definitions
    Tools {
        #[command(subcommand)]
        command: Tools,
    },
    /// Refuse work on every replica for a while, or take it again
    Maintenance {
        /// What is to hold
        #[arg(value_enum)]
        wanted: Wanted,
        /// What clients are told
        #[arg(long, default_value = "under maintenance")]
        message: String,
        /// When they may come back, in seconds
        #[arg(long, default_value_t = 60)]
        retry_after: u32,
        #[command(flatten)]
        server: Server,
    },
    /// Write our configuration from another gateway's, and say what has no equivalent
    Import {
        /// Whose configuration it is
        source: Source,
        /// The file
        file: PathBuf,
        /// Where to write, instead of stdout; an existing file is not overwritten
        #[arg(long)]
        output: Option<PathBuf>,
    },
}

/// Whether there is to be maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Wanted {
    /// Refuse work
    On,
    /// Take work
    Off,
    /// Tell which of them holds
    Status,
}

#[derive(Debug, clap::Subcommand)]
enum Audit {
    /// Check that no record was changed or taken out
    Verify {
        /// A head that was printed before: it has to be in the log still
        #[arg(long)]
        head: Option<String>,
        #[command(flatten)]
        server: Server,
    },
}

/// Why a command did not do its work: what to print and how to exit.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Refused by budget or policy.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into() }
    }

    /// Nobody answers.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self { code: 4, message: message.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 1, message: format!("{error:#}") }
    }
}

/// Runs a command and returns its exit code.
pub async fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Up { listen, operations } => up::run(cli.common, listen, operations).await,
        Command::Ask { question, docs, route } => ask::run(cli.common, question, docs, route).await,
        Command::Chat(chat) => chat::run(&cli.common, chat).await,
        Command::Ingest { folder, collection, private, server } => {
            let place = ingest::Place { collection, private };
            ingest::run(&cli.common, &folder, &place, &server).await
        }
        Command::Search { query, top_k, collection, server } => {
            ingest::search(&cli.common, (query, top_k), collection, &server).await
        }
        Command::Eval(wanted) => eval::run(&cli.common, wanted).await,
        Command::Audit { command: Audit::Verify { head, server } } => {
            audit::verify(cli.common, server, head).await
        }
        Command::Budget { command } => budget::run(&cli.common, command).await,
        Command::Keys { command } => keys::run(&cli.common, command).await,
        Command::Tools { command } => tools::run(&cli.common, command).await,
        Command::Maintenance { wanted, message, retry_after, server } => {
            maintenance::run(cli.common, wanted, (message, retry_after), server).await
        }
        Command::Import { source, file, output } => {
            import::run(&cli.common, source, &file, output.as_ref())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            eprintln!("baton: {message}");
            ExitCode::from(code)
        }
    }
}
