//! What is admitted: which tools, prompts and resources a caller is shown, and which call may go out.
//!
//! Definitions come from strangers: each is scanned, its schemas are bounded, and it is pinned. Calls
//! come from models: each is held against its key, the policy, the limits and the tool's schema, on the
//! body as it was parsed, and has its row in the audit. What is read of a resource has no definition.

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
mod subject;

use std::sync::Arc;

use globset::GlobSet;
use runtime::metrics::Metrics;
use types::{CallContext, Clock, SystemClock};

pub use audit::{Auditing, WithoutStore};
pub use canonical::Digest;
pub use pins::{FirstSight, Pinning};
pub use policy::{Otherwise, Rate, RuleConfig};
pub use scan::{Action, Scan};

pub(crate) use admission::Admission;
pub(crate) use permit::{Permit, size};
pub(crate) use pins::{Difference, differences};
pub(crate) use subject::Kind;

use self::audit::Audit;
use self::checked::Checks;
pub(crate) use self::checked::{Checked, Defined};
use self::limits::Limits;
use self::metrics::Counts;
use self::pins::{Pins, Shown};
use self::policy::{Policy, patterns_of};
use self::subject::Subject;
use crate::Error;
use crate::catalog::{Catalog, Offered};
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
#[derive(Debug)]
pub(crate) struct Judged<T> {
    pub(crate) shown: Vec<Arc<Offered<T>>>,
    /// What is not shown, with the reason for each.
    pub(crate) refused: Vec<(Arc<Offered<T>>, String)>,
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

    /// Decides which of a server's tools or prompts a caller is shown. What is wrong with one hides no
    /// other.
    pub(crate) async fn judge<T: Defined>(
        &self,
        context: &CallContext,
        server: &Described,
        catalog: &Catalog<T>,
    ) -> Judged<T> {
        let check = |item: &T| self.checks.of(&server.name, item, &self.counts);
        let (all, checked) = catalog.checked(check);
        let faults = self.faults(&server.name, checked).await;
        let rules = self.policy.about(context);
        let mut judged = Judged { shown: Vec::new(), refused: Vec::new() };
        for ((one, checked), fault) in all.iter().zip(checked).zip(faults) {
            let may = self.may(context, &rules, T::KIND, &checked.whole, checked.destroys);
            let reason = match may {
                Err(denial) => Some(denial.reason()),
                Ok(_) => fault.map(|(_, fault)| fault),
            };
            match reason {
                None => judged.shown.push(Arc::clone(one)),
                Some(reason) => judged.refused.push((Arc::clone(one), reason)),
            }
        }
        judged
    }

    /// Decides whether a caller is shown a resource, or a template of some.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn shows(
        &self,
        context: &CallContext,
        server: &Described,
        uri: &str,
    ) -> Result<(), String> {
        let subject = Subject::new(Kind::Resource, &server.name, uri, None);
        if let Some(fault) = subject.ambiguous() {
            return Err(fault.to_owned());
        }
        self.may_use(context, &subject).map(drop).map_err(|denial| denial.reason())
    }

    /// Returns of each definition what is wrong with it, with the kind of fault.
    async fn faults(
        &self,
        server: &str,
        all: &[impl AsRef<Checked>],
    ) -> Vec<Option<(&'static str, String)>> {
        let short = |checked: &&Checked| checked.definition.text.len() <= self.max_definition_bytes;
        let shown = all.iter().map(AsRef::as_ref).filter(short).map(|checked| Shown {
            tool: &checked.named,
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

#[cfg(test)]
mod tests {
    use rmcp::model::Tool;
    use serde_json::{Value, json};
    use types::{Privacy, TenantId, UserId};

    use super::*;
    use crate::store::{Decider, Known, State};

    async fn gate(rules: Value) -> Gate {
        let config = json!({ "store": "sqlite::memory:", "rules": rules, "local_tools": ["s__b"] });
        let config: Config = serde_json::from_value(config).unwrap();
        Gate::open(&config, &Metrics::default()).await.unwrap()
    }

    /// Returns what is shown of a list, and what is refused with why.
    async fn judged(gate: &Gate, context: &CallContext, list: &Catalog<Tool>) -> String {
        let server: crate::Server = serde_json::from_value(json!({ "command": "x" })).unwrap();
        let server = server.describe("s", &Config::default()).unwrap();
        let judged = gate.judge(context, &server, list).await;
        let shown = judged.shown.iter().map(|one| one.name.clone());
        let refused = judged.refused.iter().map(|(one, why)| format!("-{} {why}", one.name));
        shown.chain(refused).collect::<Vec<_>>().join(", ")
    }

    #[tokio::test]
    async fn a_list_that_is_kept_is_shown_by_the_pins_the_rules_and_the_caller_of_now() {
        let tool = |name: &str| -> Tool {
            let tool = json!({ "name": name, "inputSchema": { "type": "object" } });
            serde_json::from_value(tool).unwrap()
        };
        let list = Catalog::new("s", vec![tool("a"), tool("b")]);
        let ann = CallContext::new(TenantId::new("t").unwrap(), UserId::new("ann").unwrap());
        let first = gate(json!([])).await;
        assert_eq!(judged(&first, &ann, &list).await, "s__a, s__b");

        let by = Decider { tenant: "t".to_owned(), user: "u".to_owned(), key: None };
        let known = first.store().known().await.unwrap();
        let known = known.into_iter().find(|known| known.tool == "a").unwrap();
        for (state, shown) in [
            (State::Rejected, "s__b, -s__a its definition was rejected"),
            (State::Approved, "s__a, s__b"),
        ] {
            let decided = Known { state, ..known.clone() };
            assert!(first.store().decide(first.now_ms(), &decided, &by).await.unwrap());
            first.pins_changed();
            let told = judged(&first, &ann, &list).await;
            assert!(told.starts_with(shown), "{told}");
        }

        let mut keyed = ann.clone();
        keyed.tools = Some(["s__a".to_owned()].into());
        let told = judged(&first, &keyed, &list).await;
        assert!(told.starts_with("s__a, -s__b the key may not use it"), "{told}");
        let mut private = ann.clone();
        private.privacy = Privacy::Private;
        let told = judged(&first, &private, &list).await;
        assert!(told.starts_with("s__b, -s__a the call is private"), "{told}");

        let next = gate(json!([{ "name": "no", "users": ["ann"], "deny": ["s__b"] }])).await;
        let told = judged(&next, &ann, &list).await;
        assert_eq!(told, "s__a, -s__b rule \"no\" denies it to this caller");
        let bob = CallContext { user: UserId::new("bob").unwrap(), ..ann };
        assert_eq!(judged(&next, &bob, &list).await, "s__a, s__b");
    }
}
