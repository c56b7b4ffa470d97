//! Whom a token's claims stand for. Pure.

use serde_json::Value;
use types::{IdError, Role, TeamId, TenantId, UserId};

use crate::{Error, Issuer};

/// Whom a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whose data and money.
    pub tenant: TenantId,
    /// The user's team.
    pub team: Option<TeamId>,
    /// Who pays.
    pub user: UserId,
    /// What the user may do.
    pub role: Role,
}

/// Reads claims whose signature was checked.
///
/// # Errors
/// If one is missing or malformed, or the token has no role here.
pub(crate) fn identity(config: &Issuer, claims: &Value) -> Result<Identity, Error> {
    let malformed = |fault: IdError| Error::refused(format!("stands for nobody: {fault}"));
    let tenant = match (&config.tenant, &config.tenant_claim) {
        (_, Some(claim)) => required(claims, claim)?,
        (Some(tenant), None) => tenant,
        (None, None) => return Err(Error::refused("stands for no tenant")),
    };
    let tenant = TenantId::new(tenant).map_err(malformed)?;
    let user = UserId::new(required(claims, &config.user_claim)?).map_err(malformed)?;
    let team = config.team_claim.as_deref().and_then(|claim| at(claims, claim));
    let team = team.and_then(Value::as_str).map(TeamId::new).transpose().map_err(malformed)?;
    match role(config, claims) {
        Some(role) => Ok(Identity { tenant, team, user, role }),
        None => Err(Error::NoRole(user)),
    }
}

/// Returns the greatest of the roles that a token has.
fn role(config: &Issuer, claims: &Value) -> Option<Role> {
    let said = config.role_claim.as_deref().and_then(|claim| at(claims, claim));
    let words: Vec<&str> = match said {
        Some(Value::String(word)) => vec![word],
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let ours = |word: &&str| match config.roles.is_empty() {
        true => word.parse().ok(),
        false => config.roles.get(*word).and_then(|role| role.parse().ok()),
    };
    let greatest = words.iter().filter_map(ours).max();
    greatest.or_else(|| config.role.as_deref().and_then(|role| role.parse().ok()))
}

fn required<'a>(claims: &'a Value, name: &str) -> Result<&'a str, Error> {
    let found = at(claims, name).and_then(Value::as_str);
    found.ok_or_else(|| Error::refused(format!("has no text as claim `{name}`")))
}

/// Finds a claim: by its whole name, which may be an address, or within others.
fn at<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| name.split('.').try_fold(claims, |claims, part| claims.get(part)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn issuer(more: &Value) -> Issuer {
        let mut config =
            json!({ "issuer": "i", "audience": ["a"], "jwks": "/keys", "tenant_claim": "org" });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(config).unwrap()
    }

    #[test]
    fn claims_stand_for_a_user_with_the_greatest_of_the_roles() {
        let config = issuer(&json!({ "team_claim": "https://x/team", "role_claim": "realm.roles",
            "roles": { "boss": "admin", "dev": "member" }, "role": "read_only" }));
        let claims = |roles: Value| json!({ "sub": "ann", "org": "acme", "https://x/team": "web", "realm": { "roles": roles } });
        let role = |roles| identity(&config, &claims(roles)).unwrap().role;
        assert_eq!(role(json!(["dev", "boss", 7])), Role::Admin);
        assert_eq!(role(json!("dev")), Role::Member);
        assert_eq!(role(json!(["admin"])), Role::ReadOnly, "it is not called so there");
        let found = identity(&config, &claims(json!([]))).unwrap();
        assert_eq!((found.tenant.as_str(), found.user.as_str()), ("acme", "ann"));
        assert_eq!(found.team.unwrap().as_str(), "web");
    }

    #[test]
    fn who_has_no_name_or_no_role_is_nobody() {
        let config = issuer(&json!({ "role_claim": "roles" }));
        let fault = |claims: Value| identity(&config, &claims).unwrap_err().to_string();
        assert_eq!(fault(json!({ "sub": "ann" })), "the token has no text as claim `org`");
        assert_eq!(fault(json!({ "sub": 7, "org": "o" })), "the token has no text as claim `sub`");
        assert!(fault(json!({ "sub": " ", "org": "o" })).contains("user id is empty"));
        assert_eq!(fault(json!({ "sub": "ann", "org": "o" })), "user ann has no role here");
        let known = json!({ "sub": "ann", "org": "o", "roles": "operator" });
        assert_eq!(identity(&config, &known).unwrap().role, Role::Operator);
    }
}
