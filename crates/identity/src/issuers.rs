//! A token says who issued it; what the configuration says of that issuer decides by which keys its
//! signature is checked, for whom it has to be, and whom its claims stand for.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind as Fault;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;

use crate::set::Set;
use crate::{Error, Identity, Issuer, claims, signature};

/// What a token may be signed with: by whoever has a private key, and nobody else.
pub(crate) const SIGNED: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
/// Longer ones are no tokens.
pub(crate) const LONGEST: usize = 16 * 1024;

/// Whose tokens are taken.
#[derive(Debug, Default)]
pub struct Issuers(Vec<Known>);

#[derive(Debug)]
struct Known {
    config: Issuer,
    validation: Validation,
    set: Set,
}

impl Issuers {
    /// Reads what is configured under `setting`; keys are looked for when the first token comes.
    ///
    /// # Errors
    /// If an issuer says too little, or something impossible; the message names it.
    pub fn new(setting: &str, issuers: &BTreeMap<String, Issuer>) -> anyhow::Result<Self> {
        signature::use_ring();
        let mut all: Vec<Known> = Vec::new();
        for (name, config) in issuers {
            let place = || format!("{setting}.{name}");
            config.check().with_context(place)?;
            let same = all.iter().any(|other| other.config.issuer == config.issuer);
            ensure!(!same, "{}.issuer is another's too", place());
            let set = Set::new(&config.jwks, Duration::from_millis(config.refresh_floor_ms));
            let set = set.with_context(|| format!("{}.jwks", place()))?;
            all.push(Known { validation: validation(config), config: config.clone(), set });
        }
        Ok(Self(all))
    }

    /// Returns the names that tokens say as `iss`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|known| known.config.issuer.as_str())
    }

    /// Whether no token is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether it may be a token: three parts.
    #[must_use]
    pub fn is_one(secret: &str) -> bool {
        secret.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Returns whom a token stands for.
    ///
    /// # Errors
    /// With what is wrong with it; or if the issuer's keys cannot be had.
    pub async fn find(&self, token: &str) -> Result<Identity, Error> {
        #[derive(Deserialize)]
        struct Issued {
            iss: Option<String>,
        }
        if token.len() > LONGEST {
            return Err(Error::refused("is too long"));
        }
        let header = decode_header(token).map_err(|_| {
            Error::refused("is malformed, or signed otherwise than by RS256, ES256 or EdDSA")
        })?;
        if !SIGNED.contains(&header.alg) {
            let fault = format!("is signed by {:?}; RS256, ES256 and EdDSA are taken", header.alg);
            return Err(Error::refused(fault));
        }
        if header.crit.is_some() {
            return Err(Error::refused("has a header `crit`, of which nothing is known here"));
        }
        let issued: Issued = insecure_decode_claims(token)
            .map_err(|_| Error::refused("is malformed: its claims are no object"))?;
        let issued = issued.iss.ok_or_else(|| Error::refused("has no claim `iss`"))?;
        let issuer = self.0.iter().find(|issuer| issuer.config.issuer == issued);
        let issuer = issuer
            .ok_or_else(|| Error::refused(format!("is of {issued:?}, whose none are taken")))?;
        let key = issuer.set.find(header.kid.as_deref(), header.alg).await?;
        let mut validation = issuer.validation.clone();
        validation.algorithms = vec![header.alg];
        let token = decode::<Value>(token, &key, &validation);
        let token = token.map_err(|fault| Error::refused(told(fault.kind())))?;
        claims::identity(&issuer.config, &token.claims)
    }
}

fn validation(config: &Issuer) -> Validation {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_issuer(&[&config.issuer]);
    validation.set_audience(&config.audience);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.validate_nbf = true;
    validation.leeway = config.leeway_s;
    validation
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
