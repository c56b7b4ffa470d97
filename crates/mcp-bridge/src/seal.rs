//! A server's own state, while a client holds it.

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use rmcp::model::{RequestStateCodec, SealOptions};
use secrecy::{ExposeSecret as _, SecretString};
use types::{CallContext, KeyId};

use crate::Error;

/// How long a client has for its answer.
const HOLDS: Duration = Duration::from_secs(600);

/// Seals what servers have clients bring back, so that nobody else brings it, or to anything else.
pub(crate) struct Seals(RequestStateCodec);

impl Seals {
    /// Returns seals under `key`, or under one of this process's own.
    ///
    /// # Errors
    /// If the key has less than 32 bytes, or there is no randomness for one.
    pub(crate) fn new(key: Option<&SecretString>) -> anyhow::Result<Self> {
        let key = match key {
            Some(key) => key.expose_secret().as_bytes().to_vec(),
            None => {
                let mut key = vec![0; 32];
                let drawn = SystemRandom::new().fill(&mut key);
                drawn.map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
                key
            }
        };
        let fault = |fault| anyhow::anyhow!("mcp_bridge.state_key: {fault}");
        Ok(Self(RequestStateCodec::try_new(key).map_err(fault)?))
    }

    /// Seals `state` for the caller, and for `asked` (what was asked for) at `server`.
    pub(crate) fn seal(
        &self,
        context: &CallContext,
        server: &str,
        asked: &str,
        state: &str,
    ) -> String {
        let bound = bound(context, server, asked);
        self.0.seal_with(state.as_bytes(), &SealOptions::new().associated_data(&bound).ttl(HOLDS))
    }

    /// Returns what was sealed, to whom and for what it was.
    ///
    /// # Errors
    /// [`Error::Invalid`] to anybody else, for anything else, or too late.
    pub(crate) fn open(
        &self,
        context: &CallContext,
        server: &str,
        asked: &str,
        sealed: &str,
    ) -> Result<String, Error> {
        let opened = self.0.open_with(sealed, &bound(context, server, asked));
        let opened = opened.map_err(|fault| Error::Invalid(format!("requestState: {fault}")))?;
        String::from_utf8(opened)
            .map_err(|_| Error::Invalid("requestState: it is not UTF-8".to_owned()))
    }
}

/// Each part with its length before it, so that no two of them are the same together.
fn bound(context: &CallContext, server: &str, asked: &str) -> Vec<u8> {
    let key = context.key.as_ref().map_or("", KeyId::as_str);
    let parts = [context.tenant.as_str(), context.user.as_str(), key, server, asked];
    parts
        .iter()
        .flat_map(|part| [format!("{}:", part.len()), (*part).to_owned()])
        .collect::<String>()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use types::{TenantId, UserId};

    use super::*;

    fn caller(tenant: &str, user: &str) -> CallContext {
        CallContext::new(TenantId::new(tenant).unwrap(), UserId::new(user).unwrap())
    }

    #[test]
    fn a_state_comes_back_from_its_caller_to_its_tool_alone() {
        let seals = Seals::new(None).unwrap();
        let ours = caller("t", "u");
        let sealed = seals.seal(&ours, "files", "tool read", "step 2");
        assert_eq!(seals.open(&ours, "files", "tool read", &sealed).unwrap(), "step 2");
        let elsewhere = Seals::new(None).unwrap();
        for refused in [
            seals.open(&caller("t", "v"), "files", "tool read", &sealed),
            seals.open(&caller("u", "u"), "files", "tool read", &sealed),
            seals.open(&ours, "file", "tool read", &sealed),
            seals.open(&ours, "files", "tool write", &sealed),
            seals.open(&ours, "files", "tool read", "step 2"),
            elsewhere.open(&ours, "files", "tool read", &sealed),
        ] {
            assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
        }
        assert!(Seals::new(Some(&"short".into())).is_err());
    }
}
