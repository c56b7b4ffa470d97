//! Tokens of an identity provider, beside keys.
//!
//! A token says who issued it; what the configuration says of that issuer decides by which keys its
//! signature is checked, for whom it has to be, and whom its claims stand for.

mod claims;
mod config;
mod set;
mod signature;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind as Fault;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;
use types::ErrorKind;

pub use self::config::Issuer as IssuerConfig;
use self::set::Set;
use super::grant::Grant;
use crate::Error;

/// What a token may be signed with: by whoever has a private key, and nobody else.
const SIGNED: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
/// Longer ones are no tokens.
const LONGEST: usize = 16 * 1024;

/// Whose tokens are taken.
#[derive(Debug, Default)]
pub(crate) struct Issuers(Vec<Issuer>);

#[derive(Debug)]
struct Issuer {
    config: IssuerConfig,
    validation: Validation,
    set: Set,
}

impl Issuers {
    /// Reads what is configured; keys are looked for when the first token comes.
    ///
    /// # Errors
    /// If an issuer says too little, or something impossible; the message names it.
    pub(crate) fn new(issuers: &BTreeMap<String, IssuerConfig>) -> anyhow::Result<Self> {
        signature::use_ring();
        let mut all: Vec<Issuer> = Vec::new();
        for (name, config) in issuers {
            let place = || format!("gateway.jwt.{name}");
            config.check().with_context(place)?;
            let same = all.iter().any(|other| other.config.issuer == config.issuer);
            ensure!(!same, "{}.issuer is another's too", place());
            let set = Set::new(&config.jwks, Duration::from_millis(config.refresh_floor_ms));
            let set = set.with_context(|| format!("{}.jwks", place()))?;
            all.push(Issuer { validation: validation(config), config: config.clone(), set });
        }
        Ok(Self(all))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether it may be a token: three parts.
    pub(crate) fn is_one(secret: &str) -> bool {
        secret.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Returns whom a token stands for.
    ///
    /// # Errors
    /// With what is wrong with it; or if the issuer's keys cannot be had.
    pub(crate) async fn find(&self, token: &str) -> Result<Arc<Grant>, Error> {
        #[derive(Deserialize)]
        struct Issued {
            iss: Option<String>,
        }
        if token.len() > LONGEST {
            return Err(refused("is too long"));
        }
        let header = decode_header(token).map_err(|_| {
            refused("is malformed, or signed otherwise than by RS256, ES256 or EdDSA")
        })?;
        if !SIGNED.contains(&header.alg) {
            let fault = format!("is signed by {:?}; RS256, ES256 and EdDSA are taken", header.alg);
            return Err(refused(&fault));
        }
        if header.crit.is_some() {
            return Err(refused("has a header `crit`, of which nothing is known here"));
        }
        let issued: Issued = insecure_decode_claims(token)
            .map_err(|_| refused("is malformed: its claims are no object"))?;
        let issued = issued.iss.ok_or_else(|| refused("has no claim `iss`"))?;
        let issuer = self.0.iter().find(|issuer| issuer.config.issuer == issued);
        let issuer =
            issuer.ok_or_else(|| refused(&format!("is of {issued:?}, whose none are taken")))?;
        let key = issuer.set.find(header.kid.as_deref(), header.alg).await?;
        let mut validation = issuer.validation.clone();
        validation.algorithms = vec![header.alg];
        let token = decode::<Value>(token, &key, &validation);
        let token = token.map_err(|fault| refused(&told(fault.kind())))?;
        claims::grant(&issuer.config, &token.claims).map(Arc::new)
    }
}

fn validation(config: &IssuerConfig) -> Validation {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_issuer(&[&config.issuer]);
    validation.set_audience(&config.audience);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.validate_nbf = true;
    validation.leeway = config.leeway_s;
    validation
}

fn refused(fault: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, format!("the token {fault}"))
}

fn told(fault: &Fault) -> String {
    match fault {
        Fault::ExpiredSignature => "has expired".to_owned(),
        Fault::ImmatureSignature => "is not valid yet".to_owned(),
        Fault::InvalidAudience => "is for another audience".to_owned(),
        Fault::InvalidSignature => "has a signature that is not its issuer's".to_owned(),
        Fault::MissingRequiredClaim(claim) => format!("has no claim `{claim}`"),
        Fault::InvalidClaimFormat(claim) => format!("has a malformed claim `{claim}`"),
        _ => "is malformed".to_owned(),
    }
}

#[cfg(test)]
mod tests;
