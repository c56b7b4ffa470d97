//! What is admitted: which tools a caller is shown, and which call may go out.

use std::time::Duration;

use rmcp::model::{CallToolResult, JsonObject, Tool};
use types::{CallContext, Privacy};

use crate::Error;
use crate::config::{Config, Described};

/// Decides for every server and caller.
#[derive(Debug)]
pub(crate) struct Gate {
    max_result_bytes: usize,
}

/// What of a list is shown.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) tools: Vec<Tool>,
    /// Tools that are not shown, with the reason for each.
    pub(crate) refused: Vec<(String, String)>,
}

/// A call that may go out. Whoever holds it calls [`Permit::finish`] once the call has ended.
#[derive(Debug)]
pub(crate) struct Permit {
    /// How long the call may take.
    pub(crate) timeout: Duration,
    tool: String,
    max_result_bytes: usize,
}

impl Gate {
    pub(crate) fn new(config: &Config) -> Self {
        Self { max_result_bytes: config.max_result_bytes }
    }

    /// Whether a caller may see a server at all, whatever it offers.
    ///
    /// # Errors
    /// [`Error::NotLocal`] if the call is private and the server is not local.
    pub(crate) fn sees(&self, context: &CallContext, server: &Described) -> Result<(), Error> {
        match context.privacy == Privacy::Public || server.local {
            true => Ok(()),
            false => Err(Error::NotLocal(server.name.clone())),
        }
    }

    /// Decides which of a server's tools a caller is shown.
    pub(crate) async fn judge(
        &self,
        _context: &CallContext,
        _server: &Described,
        tools: Vec<Tool>,
    ) -> Judged {
        Judged { tools, refused: Vec::new() }
    }

    /// Decides whether a call may go out.
    ///
    /// # Errors
    /// Why it may not; the message names server and reason.
    pub(crate) async fn admit(
        &self,
        context: &CallContext,
        server: &Described,
        tool: &Tool,
        _arguments: &JsonObject,
    ) -> Result<Permit, Error> {
        self.sees(context, server)?;
        Ok(Permit {
            timeout: context.time_left(server.timeout),
            tool: tool.name.to_string(),
            max_result_bytes: self.max_result_bytes,
        })
    }
}

impl Permit {
    /// Ends the call: returns its outcome, or why a result is not passed on.
    ///
    /// # Errors
    /// The outcome's own, or [`Error::TooLarge`].
    pub(crate) async fn finish(
        self,
        outcome: Result<CallToolResult, Error>,
    ) -> Result<CallToolResult, Error> {
        let result = outcome?;
        let (bytes, limit) = (size(&result)?, self.max_result_bytes);
        match bytes > limit {
            true => Err(Error::TooLarge { tool: self.tool, bytes, limit }),
            false => Ok(result),
        }
    }
}

impl Permit {
    /// Ends the call with a question to the client; it is asked for again with the answer.
    pub(crate) async fn asked_back(self) {}
}

/// Returns how much something is, in bytes of JSON.
pub(crate) fn size(result: &impl serde::Serialize) -> Result<usize, Error> {
    let mut count = Count(0);
    serde_json::to_writer(&mut count, result)
        .map_err(|fault| Error::Invalid(format!("it cannot be written as JSON: {fault}")))?;
    Ok(count.0)
}

/// Counts what is written.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
