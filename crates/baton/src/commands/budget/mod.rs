//! `baton budget`: who may spend how much, and what was spent, of a running system.

mod answers;
mod table;

use anyhow::{Context as _, anyhow};
use reqwest::Method;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use types::NanoUsd;

use self::answers::{History, Spend, Spenders, State, Utilization, Verified};
use crate::cli::{Common, Failure};
use crate::commands::client::{Server, segment};

/// What is asked or done about money.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Budget {
    /// Tell what a user may spend and has spent, in every period
    Show {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        server: Server,
    },
    /// List who spent most
    Top {
        /// In which period
        #[arg(value_enum, default_value_t = Period::Monthly)]
        period: Period,
        #[command(flatten)]
        listed: Listed,
        #[command(flatten)]
        server: Server,
    },
    /// Set or replace a limit
    Set {
        #[command(flatten)]
        whose: Whose,
        /// For which period
        #[arg(value_enum)]
        period: Period,
        /// In USD, more than zero, at most nine decimal places
        #[arg(value_parser = usd, allow_negative_numbers = true)]
        amount: NanoUsd,
        #[command(flatten)]
        server: Server,
    },
    /// Take a limit away
    Unset {
        #[command(flatten)]
        whose: Whose,
        /// For which period; all of them unless said
        #[arg(value_enum)]
        period: Option<Period>,
        #[command(flatten)]
        server: Server,
    },
    /// List who is nearest to its limit
    Utilization {
        /// In which period
        #[arg(value_enum, default_value_t = Period::Monthly)]
        period: Period,
        #[command(flatten)]
        listed: Listed,
        #[command(flatten)]
        server: Server,
    },
    /// List what moved money, oldest first
    History {
        /// Lines after this number
        #[arg(long, default_value_t = 0)]
        after: i64,
        /// At most so many, 1 to 10000
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// All of it as comma-separated values
        #[arg(long, conflicts_with_all = ["limit", "json"])]
        csv: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Check that what is spent and held is the sum of the history
    Verify {
        #[command(flatten)]
        server: Server,
    },
    /// Add to what was spent, or take away, by a line of its own in the history
    Correct {
        #[command(flatten)]
        whose: Whose,
        /// In USD; less than zero takes away
        #[arg(value_parser = usd, allow_negative_numbers = true)]
        amount: NanoUsd,
        /// Why
        #[arg(long)]
        reason: String,
        /// Repeated with the same, it changes nothing
        #[arg(long)]
        idempotency_key: Option<String>,
        #[command(flatten)]
        server: Server,
    },
}

/// Those whose money it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Whose {
    /// The name of the user, or of what --scope says
    id: String,
    /// What it is
    #[arg(long, value_enum, default_value_t = Scope::User)]
    scope: Scope,
}

/// Who is listed.
#[derive(Debug, clap::Args)]
pub(crate) struct Listed {
    /// What they are
    #[arg(long, value_enum, default_value_t = Scope::User)]
    scope: Scope,
    /// At most so many, 1 to 1000
    #[arg(long, default_value_t = 10)]
    limit: u32,
}

/// A calendar period in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Period {
    /// From midnight
    Daily,
    /// From Monday
    Weekly,
    /// From the first
    Monthly,
    /// From the beginning
    Total,
}

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// A person or program
    User,
    /// A group of users
    Team,
    /// An API key, by its id
    Key,
    /// A run
    Run,
    /// The whole tenant
    Tenant,
}

#[derive(Serialize)]
struct Limit<'a> {
    scope: Scope,
    id: &'a str,
    period: Period,
    limit: Box<RawValue>,
}

#[derive(Serialize)]
struct Correction<'a> {
    scopes: [Value; 1],
    amount: Box<RawValue>,
    reason: &'a str,
}

pub(crate) async fn run(common: &Common, command: Budget) -> Result<(), Failure> {
    match command {
        Budget::Show { whose, server } => {
            let path = format!("/api/v1/budget/spend/{}?scope={}", whose.id(), word(whose.scope));
            let answer = server.text(Method::GET, &path, None, None).await?;
            print(common, &answer, |spend: Spend| table::states(&spend.states, table::PERIODS))
        }
        Budget::Top { period, listed, server } => {
            let path = listed.path("top-spenders", period);
            let answer = server.text(Method::GET, &path, None, None).await?;
            print(common, &answer, |top: Spenders| table::states(&top.spenders, table::NAMES))
        }
        Budget::Set { whose, period, amount, server } => {
            let limit = number(amount)?;
            let body = json(&Limit { scope: whose.scope, id: &whose.id, period, limit })?;
            let answer =
                server.text(Method::POST, "/api/v1/budget/limit", Some(body), None).await?;
            print(common, &answer, |state: State| table::states(&[state], table::PERIODS))
        }
        Budget::Unset { whose, period, server } => {
            let of = period.map_or_else(String::new, |period| format!("/{}", word(period)));
            let path =
                format!("/api/v1/budget/limit/{}{of}?scope={}", whose.id(), word(whose.scope));
            server.text(Method::DELETE, &path, None, None).await?;
            let left = period.map_or_else(|| "no".to_owned(), |one| format!("no {}", word(one)));
            match common.json {
                true => println!("{}", json!({ "id": whose.id, "removed": true })),
                false => println!("{} {} has {left} limit", word(whose.scope), whose.id),
            }
            Ok(())
        }
        Budget::Utilization { period, listed, server } => {
            let path = listed.path("utilization", period);
            let answer = server.text(Method::GET, &path, None, None).await?;
            print(common, &answer, |seen: Utilization| {
                format!("{}\n{}", table::states(&seen.scopes, table::NAMES), seen.counts)
            })
        }
        Budget::History { after, limit, csv, server } => {
            let path = match csv {
                true => format!("/api/v1/budget/history?format=csv&after={after}"),
                false => format!("/api/v1/budget/history?after={after}&limit={limit}"),
            };
            let answer = server.text(Method::GET, &path, None, None).await?;
            if csv {
                print!("{answer}");
                return Ok(());
            }
            print(common, &answer, |history: History| table::history(&history))
        }
        Budget::Verify { server } => {
            let answer = server.text(Method::GET, "/api/v1/budget/verify", None, None).await?;
            let verified: Verified = read(&answer)?;
            print(common, &answer, |_: Verified| verified.to_string())?;
            match verified.consistent {
                true => Ok(()),
                false => Err(anyhow!("the accounts are not the sum of the history").into()),
            }
        }
        Budget::Correct { whose, amount, reason, idempotency_key, server } => {
            let scopes = [json!({ "scope": whose.scope, "id": whose.id })];
            let body = json(&Correction { scopes, amount: number(amount)?, reason: &reason })?;
            let path = "/api/v1/budget/corrections";
            let key = idempotency_key.as_deref();
            let answer = server.text(Method::POST, path, Some(body), key).await?;
            print(common, &answer, |_: Value| {
                let (kind, id) = (word(whose.scope), &whose.id);
                let size = table::money(NanoUsd::new(amount.nanos().saturating_abs()));
                let done = if amount < NanoUsd::ZERO { "taken from" } else { "added to" };
                format!("{size} {done} what {kind} {id} spent: {reason}\n")
            })
        }
    }
}

impl Whose {
    fn id(&self) -> String {
        segment(&self.id)
    }
}

impl Listed {
    fn path(&self, report: &str, period: Period) -> String {
        let Self { scope, limit } = self;
        format!("/api/v1/budget/{report}/{}?limit={limit}&scope={}", word(period), word(*scope))
    }
}

/// Prints an answer as it came, or for people.
fn print<T: serde::de::DeserializeOwned>(
    common: &Common,
    answer: &str,
    shown: impl FnOnce(T) -> String,
) -> Result<(), Failure> {
    match common.json {
        true => println!("{answer}"),
        false => print!("{}", shown(read(answer)?)),
    }
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(answer: &str) -> anyhow::Result<T> {
    serde_json::from_str(answer).context("the answer is not as it should be")
}

fn json(body: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(body)?)
}

/// Returns an amount as a JSON number, whole.
fn number(amount: NanoUsd) -> anyhow::Result<Box<RawValue>> {
    Ok(RawValue::from_string(amount.to_string())?)
}

fn usd(text: &str) -> Result<NanoUsd, types::MoneyError> {
    text.strip_prefix('$').unwrap_or(text).parse()
}

fn word(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
