//! Who may call what, and how. Pure.
//!
//! The first rule that is about the caller and names the tool decides everything about the call; where
//! none does, the default. Within a rule what is denied is not allowed. So one name tells what decided.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use types::CallContext;

use super::schema::{Misfit, Schema};

/// What holds where no rule does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// The call goes out.
    #[default]
    Allow,
    /// It does not.
    Deny,
}

/// How often a caller may call the tools of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many calls
    pub calls: u32,
    /// in so many milliseconds.
    pub window_ms: u64,
}

/// A rule as it is configured. Names are patterns, in which `*` is any text and `?` any character; a list
/// of callers that is empty is about all of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleConfig {
    /// What the rule is called where it decides.
    pub name: String,
    /// Whose calls it is about.
    pub tenants: Vec<String>,
    /// Which users'.
    pub users: Vec<String>,
    /// With which keys, by their ids; a call without one is none of them.
    pub keys: Vec<String>,
    /// For which runs; a call outside a run is none of them.
    pub runs: Vec<String>,
    /// Tools that it allows, as `server__tool`.
    pub allow: Vec<String>,
    /// Tools that it denies.
    pub deny: Vec<String>,
    /// Of the tools that it allows and that may destroy something, those that are approved; all of them
    /// when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved: Option<Vec<String>>,
    /// A JSON schema that the arguments have to fit besides the tool's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Map<String, Value>>,
    /// How often each caller may call its tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How many calls of each caller may be under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How long a call may take, in milliseconds, where that is less than the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The largest result, in bytes of JSON, where that is less than the bridge's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_result_bytes: Option<usize>,
}

/// Every rule, ready.
pub(crate) struct Policy {
    rules: Vec<Rule>,
    otherwise: Otherwise,
}

pub(crate) struct Rule {
    pub(crate) name: String,
    tenants: Option<GlobSet>,
    users: Option<GlobSet>,
    keys: Option<GlobSet>,
    runs: Option<GlobSet>,
    allow: GlobSet,
    deny: GlobSet,
    approved: Option<GlobSet>,
    arguments: Option<Schema>,
    pub(crate) rate: Option<Rate>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_result_bytes: Option<usize>,
}

/// The rules that are about one caller.
pub(crate) struct Rules<'a> {
    rules: Vec<&'a Rule>,
    otherwise: Otherwise,
}

/// What was decided, and by what.
pub(crate) enum Verdict<'a> {
    /// By a rule, or by the default.
    Allowed(Option<&'a Rule>),
    /// By a rule of that name, or by the default.
    Denied(&'a str),
}

/// What the default is called where it decides.
pub(crate) const DEFAULT: &str = "default";

impl Policy {
    /// Makes the rules ready.
    ///
    /// # Errors
    /// If a rule has no name or another's, names no tool, or a pattern or its schema is malformed; the
    /// message names the rule.
    pub(crate) fn new(rules: &[RuleConfig], otherwise: Otherwise) -> anyhow::Result<Self> {
        let ready = |(at, rule): (usize, &RuleConfig)| {
            let taken = rule.name == DEFAULT || rules[..at].iter().any(|one| one.name == rule.name);
            ensure!(!rule.name.is_empty() && !taken, "it needs a name of its own");
            Rule::new(rule)
        };
        let told = |at: usize, rule: &RuleConfig| format!("mcp_bridge.rules[{at}] {:?}", rule.name);
        let rules = rules.iter().enumerate();
        let rules = rules.map(|(at, rule)| ready((at, rule)).with_context(|| told(at, rule)));
        Ok(Self { rules: rules.collect::<anyhow::Result<_>>()?, otherwise })
    }

    /// Returns the rules that are about a caller.
    pub(crate) fn about(&self, context: &CallContext) -> Rules<'_> {
        let rules = self.rules.iter().filter(|rule| rule.is_about(context));
        Rules { rules: rules.collect(), otherwise: self.otherwise }
    }
}

impl<'a> Rules<'a> {
    /// Decides about a tool by its whole name, `server__tool`, whatever clients call it.
    pub(crate) fn decide(&self, tool: &str) -> Verdict<'a> {
        for rule in &self.rules {
            if rule.deny.is_match(tool) {
                return Verdict::Denied(&rule.name);
            }
            if rule.allow.is_match(tool) {
                return Verdict::Allowed(Some(rule));
            }
        }
        match self.otherwise {
            Otherwise::Allow => Verdict::Allowed(None),
            Otherwise::Deny => Verdict::Denied(DEFAULT),
        }
    }
}

impl Rule {
    fn new(config: &RuleConfig) -> anyhow::Result<Self> {
        ensure!(!(config.allow.is_empty() && config.deny.is_empty()), "it names no tool");
        let rate = config.rate;
        let good = rate.is_none_or(|rate| rate.calls > 0 && rate.window_ms > 0);
        ensure!(good && config.concurrency != Some(0), "a limit of 0 is a deny");
        ensure!(config.timeout_ms != Some(0), "timeout_ms: 0 is too few");
        let some =
            |patterns: &[String]| (!patterns.is_empty()).then(|| patterns_of(patterns)).transpose();
        let arguments = config.arguments.as_ref().map(Schema::new).transpose();
        Ok(Self {
            name: config.name.clone(),
            tenants: some(&config.tenants)?,
            users: some(&config.users)?,
            keys: some(&config.keys)?,
            runs: some(&config.runs)?,
            allow: patterns_of(&config.allow)?,
            deny: patterns_of(&config.deny)?,
            approved: config.approved.as_deref().map(patterns_of).transpose()?,
            arguments: arguments.map_err(|fault| anyhow::anyhow!("arguments: {fault}"))?,
            rate,
            concurrency: config.concurrency,
            timeout: config.timeout_ms.map(Duration::from_millis),
            max_result_bytes: config.max_result_bytes,
        })
    }

    fn is_about(&self, context: &CallContext) -> bool {
        let fits = |patterns: &Option<GlobSet>, name: Option<&str>| {
            patterns.as_ref().is_none_or(|set| name.is_some_and(|name| set.is_match(name)))
        };
        fits(&self.tenants, Some(context.tenant.as_str()))
            && fits(&self.users, Some(context.user.as_str()))
            && fits(&self.keys, context.key.as_ref().map(|key| key.as_str()))
            && fits(&self.runs, context.run.as_ref().map(|run| run.as_str()))
    }

    /// Whether a tool that may destroy something is approved.
    pub(crate) fn approves(&self, tool: &str) -> bool {
        self.approved.as_ref().is_none_or(|approved| approved.is_match(tool))
    }

    /// Checks arguments against the rule's own schema.
    pub(crate) fn check(&self, arguments: &Value) -> Result<(), Misfit> {
        self.arguments.as_ref().map_or(Ok(()), |schema| schema.check(arguments))
    }
}

/// Reads patterns, in which `*` is any text.
pub(crate) fn patterns_of(patterns: &[String]) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob =
            GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build();
        set.add(glob.with_context(|| format!("pattern {pattern:?}"))?);
    }
    Ok(set.build()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use types::{KeyId, RunId, TenantId, UserId};

    use super::*;

    fn policy(rules: Value, otherwise: Otherwise) -> anyhow::Result<Policy> {
        let rules: Vec<RuleConfig> = serde_json::from_value(rules)?;
        Policy::new(&rules, otherwise)
    }

    fn caller(user: &str) -> CallContext {
        CallContext::new(TenantId::new("t").unwrap(), UserId::new(user).unwrap())
    }

    /// What decides, with a `-` before it where it denies.
    fn told(policy: &Policy, context: &CallContext, tool: &str) -> String {
        match policy.about(context).decide(tool) {
            Verdict::Allowed(rule) => rule.map_or(DEFAULT, |rule| &rule.name).to_owned(),
            Verdict::Denied(rule) => format!("-{rule}"),
        }
    }

    #[test]
    fn the_first_rule_about_caller_and_tool_decides() {
        let policy = policy(
            json!([
                { "name": "interns", "users": ["intern-*"], "allow": ["files__*"], "deny": ["*__write_*"] },
                { "name": "key", "keys": ["key_1"], "deny": ["*"] },
                { "name": "runs", "runs": ["*"], "allow": ["git__*"] },
                { "name": "others", "tenants": ["u", "t?"], "deny": ["*"] },
            ]),
            Otherwise::Allow,
        );
        let policy = policy.unwrap();
        let (intern, mut keyed, mut run) = (caller("intern-7"), caller("ada"), caller("ada"));
        keyed.key = Some(KeyId::new("key_1").unwrap());
        run.run = Some(RunId::new("r").unwrap());
        for (context, tool, wanted) in [
            (&intern, "files__read_file", "interns"),
            (&intern, "files__write_file", "-interns"),
            (&intern, "git__log", "default"),
            (&keyed, "git__log", "-key"),
            (&run, "git__log", "runs"),
            (&caller("ada"), "git__log", "default"),
        ] {
            assert_eq!(told(&policy, context, tool), wanted, "{tool}");
        }
    }

    #[test]
    fn no_trick_with_a_name_gets_around_a_rule() {
        let rules = json!([
            { "name": "no", "deny": ["files__delete*"] },
            { "name": "yes", "allow": ["files__*"] },
        ]);
        let policy = policy(rules, Otherwise::Deny).unwrap();
        for (tool, wanted) in [
            ("files__delete", "-no"),
            ("files__delete_all__really", "-no"),
            ("files__read/../delete", "yes"),
            // Another server's tool of the same name, and what only looks so.
            ("files2__read", "-default"),
            ("xfiles__read", "-default"),
            ("Files__read", "-default"),
            ("files_read", "-default"),
            ("", "-default"),
        ] {
            assert_eq!(told(&policy, &caller("ada"), tool), wanted, "{tool}");
        }
    }

    #[test]
    fn arguments_have_to_fit_the_rules_schema() {
        let rules = json!([{ "name": "docs", "allow": ["files__*"], "arguments": {
            "properties": { "path": { "pattern": "^docs/[^.]*$" } }, "required": ["path"],
        } }]);
        let policy = policy(rules, Otherwise::Deny).unwrap();
        let context = caller("ada");
        let verdict = policy.about(&context).decide("files__read");
        let Verdict::Allowed(Some(rule)) = verdict else { panic!() };
        assert_eq!(rule.check(&json!({ "path": "docs/a" })), Ok(()));
        assert_eq!(rule.check(&json!({ "path": "docs/../a" })).unwrap_err().at, "/path");
        assert!(rule.check(&json!({})).is_err());
        // The last of two is the one that counts, here and for the server: it is what was parsed.
        let parsed: Value = serde_json::from_str(r#"{"path":"docs/a","path":"/etc"}"#).unwrap();
        assert!(rule.check(&parsed).is_err());
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_refused_by_name() {
        for (rules, fault) in [
            (json!([{ "allow": ["*"] }]), "name of its own"),
            (json!([{ "name": "default", "allow": ["*"] }]), "name of its own"),
            (json!([{ "name": "a", "allow": ["*"] }, { "name": "a", "deny": ["*"] }]), "rules[1]"),
            (json!([{ "name": "a" }]), "names no tool"),
            (json!([{ "name": "a", "allow": ["[a"] }]), "pattern \"[a\""),
            (json!([{ "name": "a", "allow": ["*"], "arguments": { "type": 1 } }]), "arguments"),
            (json!([{ "name": "a", "allow": ["*"], "concurrency": 0 }]), "limit of 0"),
            (
                json!([{ "name": "a", "allow": ["*"], "rate": { "calls": 0, "window_ms": 1 } }]),
                "of 0",
            ),
            (json!([{ "name": "a", "allow": ["*"], "argument": {} }]), "argument"),
        ] {
            let told = format!("{:#}", policy(rules.clone(), Otherwise::Allow).err().unwrap());
            assert!(told.contains(fault), "{rules}: {told}");
        }
    }
}
