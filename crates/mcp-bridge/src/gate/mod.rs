//! What is admitted: which tools a caller is shown, and which call may go out.
//!
//! Definitions come from strangers: each is scanned, its schemas are bounded, and it is pinned. Calls
//! come from models: each is held against its key, the policy, the limits and the tool's schema, on the
//! body as it was parsed, and has its row in the audit.

mod admission;
mod audit;
mod canonical;
mod checked;
mod limits;
mod metrics;
mod permit;
mod pins;
mod policy;
mod scan;
mod schema;

use std::sync::Arc;

use globset::GlobSet;
use rmcp::model::Tool;
use runtime::metrics::Metrics;
use types::{CallContext, Clock, SystemClock};

pub use audit::{Auditing, WithoutStore};
pub use canonical::Digest;
pub use pins::{FirstSight, Pinning};
pub use policy::{Otherwise, Rate, RuleConfig};
pub use scan::{Action, Scan};

pub(crate) use admission::Admission;
pub(crate) use permit::size;
pub(crate) use pins::{Difference, differences};

use self::audit::Audit;
use self::checked::{Checked, Checks};
use self::limits::Limits;
use self::metrics::Counts;
use self::pins::{Pins, Shown, only_pinned};
use self::policy::{Policy, patterns_of};
use crate::Error;
use crate::config::{Config, Described};
use crate::store::{self, Store};

/// Decides for every server and caller.
pub(crate) struct Gate {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    checks: Checks,
    pins: Pins,
    scan: Scan,
    policy: Policy,
    limits: Limits,
    /// Tools that a private call may use.
    local_tools: Option<GlobSet>,
    audit: Arc<Audit>,
    counts: Counts,
    max_definition_bytes: usize,
    max_result_bytes: usize,
}

/// What of a list is shown.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) tools: Vec<Tool>,
    /// Tools that are not shown, with the reason for each.
    pub(crate) refused: Vec<(String, String)>,
}

impl Gate {
    /// Checks the policy and opens the store.
    ///
    /// # Errors
    /// If a rule is malformed or the store cannot be opened; the message names it.
    pub(crate) async fn open(config: &Config, metrics: &Metrics) -> anyhow::Result<Self> {
        let policy = Policy::new(&config.rules, config.otherwise)?;
        let local_tools = config.local_tools.as_deref().map(patterns_of).transpose()?;
        let store = store::open(config).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let counts = Counts::new(metrics);
        let rows = (Arc::clone(&store), Arc::clone(&clock));
        let audit = Audit::start(rows.0, rows.1, &config.audit, counts.clone()).await?;
        let pins = Pins::new(Arc::clone(&store), Arc::clone(&clock), config.pins.clone());
        Ok(Self {
            store,
            clock,
            checks: Checks::new(config.servers.keys().cloned().collect()),
            pins,
            scan: config.scan,
            policy,
            limits: Limits::default(),
            local_tools,
            audit: Arc::new(audit),
            counts,
            max_definition_bytes: config.pins.max_definition_bytes,
            max_result_bytes: config.max_result_bytes,
        })
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Says that pins were decided on in this process.
    pub(crate) fn pins_changed(&self) {
        self.pins.changed();
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Waits until the audit is written, or cannot be.
    pub(crate) async fn flush(&self) {
        self.audit.flush().await;
    }

    /// Checks how much a server gives that is no result of a tool: those are measured by their permits.
    ///
    /// # Errors
    /// [`Error::TooLarge`], which names `asked`.
    pub(crate) fn passes(&self, asked: &str, given: &impl serde::Serialize) -> Result<(), Error> {
        let (bytes, limit) = (size(given)?, self.max_result_bytes);
        match bytes > limit {
            true => Err(Error::TooLarge { asked: asked.to_owned(), bytes, limit }),
            false => Ok(()),
        }
    }

    /// Decides which of a server's tools a caller is shown. What is wrong with one hides no other.
    pub(crate) async fn judge(
        &self,
        context: &CallContext,
        server: &Described,
        tools: Vec<Tool>,
    ) -> Judged {
        let checked: Vec<_> =
            tools.iter().map(|tool| self.checks.of(&server.name, tool, &self.counts)).collect();
        let faults = self.faults(&server.name, &checked).await;
        let mut judged = Judged::default();
        for ((tool, checked), fault) in tools.into_iter().zip(&checked).zip(faults) {
            let reason = match self.may(context, checked) {
                Err(denial) => Some(denial.reason()),
                Ok(_) => fault.map(|(_, fault)| fault),
            };
            match reason {
                None => judged.tools.push(only_pinned(tool)),
                Some(reason) => judged.refused.push((tool.name.into_owned(), reason)),
            }
        }
        judged
    }

    /// Returns of each definition what is wrong with it, with the kind of fault.
    async fn faults(
        &self,
        server: &str,
        all: &[impl AsRef<Checked>],
    ) -> Vec<Option<(&'static str, String)>> {
        let short = |checked: &&Checked| checked.definition.text.len() <= self.max_definition_bytes;
        let shown = all.iter().map(AsRef::as_ref).filter(short).map(|checked| Shown {
            tool: &checked.tool,
            definition: &checked.definition,
            findings: &checked.findings,
            held: self.scan.action(&checked.findings).is_some_and(|action| action >= Action::Hold),
        });
        let shown: Vec<Shown<'_>> = shown.collect();
        let mut pinned = self.pins.judge(server, &shown).await.into_iter();
        let fault = |checked: &Checked| {
            let length = checked.definition.text.len();
            if length > self.max_definition_bytes {
                let most = self.max_definition_bytes;
                let told = format!("its definition has {length} bytes, at most {most} are taken");
                return Some(("definition", told));
            }
            let pin = pinned.next().flatten();
            if self.scan.action(&checked.findings) == Some(Action::Refuse) {
                return Some(("scan", checked.told()));
            }
            let schema = checked.schema_fault().map(|fault| ("schema", fault));
            pin.map(|pin| ("pin", pin)).or(schema)
        };
        all.iter().map(AsRef::as_ref).map(fault).collect()
    }
}
