//! Whether a call goes out: the checks in their order, the first no ends it.

use std::time::Instant;

use rmcp::model::JsonObject;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use types::{CallContext, Privacy, allows};

use super::Gate;
use super::checked::Defined;
use super::limits::Busy;
use super::permit::{Permit, Row};
use super::policy::{DEFAULT, Rule, Rules, Verdict};
use super::schema::Misfit;
use super::subject::{Kind, Subject};
use crate::Error;
use crate::config::Described;

/// What becomes of a call.
pub(crate) enum Admission {
    /// It goes out.
    Go(Box<Permit>),
    /// It does not: its arguments are wrong, which is the tool's answer.
    Answer(String),
}

/// Why a call does not go out.
struct Denial {
    /// What decided, for the audit.
    rule: String,
    /// The kind of reason, for the metric.
    kind: &'static str,
    /// None where the arguments are wrong, which the model is told as the tool's answer.
    error: Result<String, Error>,
}

impl Gate {
    /// Whether a caller may see a server at all, whatever it offers.
    ///
    /// # Errors
    /// [`Error::NotLocal`] if the call is private and the server is not local, [`Error::NotForKey`] if
    /// the key may use none of its tools.
    pub(crate) fn sees(&self, context: &CallContext, server: &Described) -> Result<(), Error> {
        if context.privacy == Privacy::Private && !server.local {
            return Err(Error::NotLocal(server.name.clone()));
        }
        if !may_have(context.tools.as_deref(), &server.name) {
            let (name, allowed) = (server.name.clone(), listed(context));
            return Err(Error::NotForKey { what: "server", name, allowed });
        }
        Ok(())
    }

    /// Decides whether a call of a tool or a prompt may go out.
    ///
    /// # Errors
    /// Why it may not; the message names server and reason.
    pub(crate) async fn admit<T: Defined>(
        &self,
        context: &CallContext,
        server: &Described,
        method: &'static str,
        item: &T,
        arguments: &JsonObject,
    ) -> Result<Admission, Error> {
        let checked = self.checks.of(&server.name, item, &self.counts);
        let subject = Subject::new(T::KIND, &server.name, item.name(), Some(checked));
        self.admit_subject(context, server, method, subject, arguments).await
    }

    /// Decides whether a resource may be asked for; for rules and audit its address is among the
    /// `arguments`, as `uri`.
    ///
    /// # Errors
    /// As [`Gate::admit`]; [`Error::Invalid`] if the address could mean another one.
    pub(crate) async fn admit_resource(
        &self,
        context: &CallContext,
        server: &Described,
        method: &'static str,
        uri: &str,
        arguments: &JsonObject,
    ) -> Result<Admission, Error> {
        let subject = Subject::new(Kind::Resource, &server.name, uri, None);
        self.admit_subject(context, server, method, subject, arguments).await
    }

    async fn admit_subject(
        &self,
        context: &CallContext,
        server: &Described,
        method: &'static str,
        subject: Subject,
        arguments: &JsonObject,
    ) -> Result<Admission, Error> {
        let arguments = Value::Object(arguments.clone());
        let hash = self.audit.hash(context, &arguments);
        let mut row =
            Row::new(self, context, method, subject.kind, &server.name, &subject.own, hash);
        if let Some(checked) = &subject.checked {
            row.pin(checked.definition.digest);
        }
        let decided = self.decide(context, server, method, &subject, &arguments).await;
        match decided {
            Ok((rule, held)) => {
                row.allowed(rule.map_or(DEFAULT, |rule| &rule.name));
                let own = rule.and_then(|rule| rule.timeout);
                let timeout = own.map_or(server.timeout, |own| own.min(server.timeout));
                let most = rule.and_then(|rule| rule.max_result_bytes);
                let most =
                    most.map_or(self.max_result_bytes, |most| most.min(self.max_result_bytes));
                let timeout = context.time_left(timeout);
                let permit = Permit::new(row, timeout, most, subject, held);
                Ok(Admission::Go(Box::new(permit)))
            }
            Err(denial) => {
                self.counts.denied(denial.kind);
                if denial.kind == "pin" {
                    self.counts.pin_refused(&server.name);
                }
                row.denied(&denial.rule);
                match denial.error {
                    Ok(text) => {
                        row.end("tool_error");
                        Ok(Admission::Answer(text))
                    }
                    Err(error) => {
                        row.end("denied");
                        Err(error)
                    }
                }
            }
        }
    }

    /// Returns what a caller is told of something of this kind that is not there: whoever may not use
    /// it does not learn whether it is. `whole` says what keys call what clients call so.
    pub(crate) fn hide(
        &self,
        context: &CallContext,
        kind: Kind,
        whole: impl Fn(&str) -> String,
        error: Error,
    ) -> Error {
        let may = |what: &str, name: &str| match what == kind.as_str() {
            true => allows(context.tools.as_deref(), &whole(name)),
            // A server is called the same by everybody.
            false => allows(context.tools.as_deref(), name),
        };
        match error {
            Error::Unknown { what, name, .. } if !may(what, &name) => {
                Error::NotForKey { what, name, allowed: listed(context) }
            }
            Error::Unknown { what, name, mut similar } => {
                similar.retain(|one| may(what, one));
                Error::Unknown { what, name, similar }
            }
            error => error,
        }
    }

    /// Keeps a row of a call that found no tool, prompt or resource, or no way to its server, and
    /// returns why.
    pub(crate) fn turned_away(
        &self,
        context: &CallContext,
        method: &'static str,
        kind: Kind,
        name: &str,
        arguments: &JsonObject,
        error: Error,
    ) -> Error {
        let server = match &error {
            Error::NotLocal(server) => server.as_str(),
            _ => "",
        };
        let name: String = name.chars().take(128).collect();
        let hash = self.audit.hash(context, &Value::Object(arguments.clone()));
        let mut row = Row::new(self, context, method, kind, server, &name, hash);
        row.denied(whose(&error));
        row.end(error.outcome());
        error
    }

    async fn decide(
        &self,
        context: &CallContext,
        server: &Described,
        method: &'static str,
        subject: &Subject,
        arguments: &Value,
    ) -> Result<(Option<&Rule>, Option<OwnedSemaphorePermit>), Denial> {
        let refuse = |rule: &str, kind: &'static str, reason: String| Denial {
            rule: rule.to_owned(),
            kind,
            error: Err(Error::Denied {
                what: subject.kind.as_str(),
                server: server.name.clone(),
                name: subject.own.clone(),
                reason,
            }),
        };
        let wrong = |rule: &str, text: String| Denial {
            rule: rule.to_owned(),
            kind: "arguments",
            error: Ok(text),
        };
        self.audit.ready().map_err(|error| Denial {
            rule: "audit".to_owned(),
            kind: "audit",
            error: Err(error),
        })?;
        self.sees(context, server).map_err(|error| {
            let kind = whose(&error);
            Denial { rule: kind.to_owned(), kind, error: Err(error) }
        })?;
        // Whoever wants to be told no more is held back by no rule, and takes nothing of a limit.
        if method == "resources/unsubscribe" {
            return Ok((None, None));
        }
        if let Some(fault) = subject.ambiguous() {
            let (name, own) = (&server.name, &subject.own);
            let told = format!("resource {own:?} of server {name:?} is refused: {fault}");
            let (rule, kind) = ("address".to_owned(), "address");
            return Err(Denial { rule, kind, error: Err(Error::Invalid(told)) });
        }
        let rule = self.may_use(context, subject).map_err(|denial| denial.told(server, subject))?;
        let checked: Vec<_> = subject.checked.iter().collect();
        let mut faults = self.faults(&server.name, &checked).await;
        if let Some((kind, fault)) = faults.pop().flatten() {
            return Err(refuse(kind, kind, fault));
        }
        let told =
            |misfit: Misfit| format!("the arguments are wrong: {misfit}; the tool was not called");
        let checked = subject.checked.as_ref();
        if let Some(Ok(schema)) = checked.and_then(|checked| checked.input.as_ref()) {
            schema.check(arguments).map_err(|misfit| wrong("schema", told(misfit)))?;
        }
        let Some(rule) = rule else { return Ok((None, None)) };
        if let Err(misfit) = rule.check(arguments) {
            let reason = format!("rule {:?} does not take its arguments: {misfit}", rule.name);
            return Err(refuse(&rule.name, "policy", reason));
        }
        let held = self.limits.take(context, rule, Instant::now()).map_err(|busy| Denial {
            rule: rule.name.clone(),
            kind: "limit",
            error: Err(Error::Limited {
                what: subject.kind.as_str(),
                server: server.name.clone(),
                name: subject.own.clone(),
                reason: limit_told(rule, &busy),
            }),
        })?;
        Ok((Some(rule), held))
    }

    /// As [`Self::may`], of one subject.
    pub(super) fn may_use(
        &self,
        context: &CallContext,
        subject: &Subject,
    ) -> Result<Option<&Rule>, NotAllowed> {
        let rules = self.policy.about(context);
        self.may(context, &rules, subject.kind, &subject.name, subject.destroys())
    }

    /// Decides by who calls, the rules about that caller, a whole name and a tool's hints alone.
    pub(super) fn may<'a>(
        &self,
        context: &CallContext,
        rules: &Rules<'a>,
        kind: Kind,
        name: &str,
        destroys: bool,
    ) -> Result<Option<&'a Rule>, NotAllowed> {
        if !allows(context.tools.as_deref(), name) {
            return Err(NotAllowed {
                rule: "key".to_owned(),
                kind: "key",
                reason: format!("the key may not use it; it may use {}", listed(context)),
            });
        }
        let local = self.local_tools.as_ref().is_none_or(|local| local.is_match(name));
        if context.privacy == Privacy::Private && !local {
            return Err(NotAllowed {
                rule: "privacy".to_owned(),
                kind: "privacy",
                reason: format!(
                    "the call is private and the {} is not among mcp_bridge.local_tools",
                    kind.as_str()
                ),
            });
        }
        match rules.decide(name) {
            Verdict::Allowed(Some(rule)) if destroys && !rule.approves(name) => Err(NotAllowed {
                rule: rule.name.clone(),
                kind: "approval",
                reason: format!(
                    "it may destroy something and needs the operator's approval: that of rule {:?}, \
                     by its name among the rule's `approved`",
                    rule.name
                ),
            }),
            Verdict::Allowed(rule) => Ok(rule),
            Verdict::Denied(rule) => Err(NotAllowed {
                rule: rule.to_owned(),
                kind: "policy",
                reason: match rule {
                    DEFAULT => "no rule allows it to this caller".to_owned(),
                    rule => format!("rule {rule:?} denies it to this caller"),
                },
            }),
        }
    }
}

/// Why a caller may not use something, whatever it is.
pub(super) struct NotAllowed {
    rule: String,
    kind: &'static str,
    reason: String,
}

impl NotAllowed {
    pub(super) fn reason(self) -> String {
        self.reason
    }

    fn told(self, server: &Described, subject: &Subject) -> Denial {
        let (what, name) = (subject.kind.as_str(), subject.own.clone());
        let error = Error::Denied { what, server: server.name.clone(), name, reason: self.reason };
        let error = Err(error);
        Denial { rule: self.rule, kind: self.kind, error }
    }
}

/// Returns what turned a call away before it found its tool.
fn whose(error: &Error) -> &'static str {
    match error {
        Error::NotLocal(_) => "privacy",
        Error::NotForKey { .. } => "key",
        _ => "catalogue",
    }
}

/// Returns what a caller's key may use.
fn listed(context: &CallContext) -> String {
    match context.tools.as_deref() {
        Some([]) => "none".to_owned(),
        tools => tools.unwrap_or_default().join(", "),
    }
}

/// Whether a list, as [`allows`] reads it, allows any tool that a server may have.
fn may_have(list: Option<&[String]>, server: &str) -> bool {
    let beginning = format!("{server}__");
    list.is_none_or(|list| {
        list.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(begins) => begins.starts_with(&beginning) || beginning.starts_with(begins),
            None => allowed.starts_with(&beginning),
        })
    })
}

fn limit_told(rule: &Rule, busy: &Busy) -> String {
    match busy {
        Busy::Rate(wait) => {
            format!("rule {:?} has the next call in {} ms", rule.name, wait.as_millis())
        }
        Busy::Concurrency(most) => {
            format!("rule {:?} has {most} calls of a caller under way at most", rule.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_sees_the_servers_whose_tools_it_may_use() {
        for (allowed, server, seen) in [
            ("files__read", "files", true),
            ("files__*", "files", true),
            ("fi*", "files", true),
            ("*", "files", true),
            ("files__*", "files-2", false),
            ("files-2__read", "files", false),
            ("files", "files", false),
            ("git__*", "files", false),
        ] {
            assert_eq!(may_have(Some(&[allowed.to_owned()]), server), seen, "{allowed} {server}");
        }
        assert!(may_have(None, "files") && !may_have(Some(&[]), "files"));
    }
}
