//! What clients of 2026-07-28 listen to.

use std::collections::BTreeSet;
use std::future::ready;

use futures::StreamExt as _;
use futures::stream::{BoxStream, once, select_all, unfold};
use rmcp::model::{JsonObject, ServerNotification, SubscriptionFilter};
use rmcp::service::{SubscriptionContext, SubscriptionSendError};
use types::CallContext;

use crate::Error;
use crate::hub::{Hub, Scope};
use crate::upstream::Change;

/// How many resources one client listens to.
const RESOURCES: usize = 64;

/// Follows resources, by clients' addresses for them, which the stream gives as they change; and none
/// once one of them is no longer told of.
///
/// # Errors
/// If they are too many, an address is of no server, or its server does not tell of changes, or not
/// in time.
pub(super) async fn follow(
    hub: &Hub,
    context: &CallContext,
    scope: Scope<'_>,
    uris: Vec<String>,
) -> Result<BoxStream<'static, Option<String>>, Error> {
    if uris.len() > RESOURCES {
        return Err(Error::Invalid(format!("resourceSubscriptions: more than {RESOURCES}")));
    }
    let mut all = Vec::new();
    for uri in uris.into_iter().collect::<BTreeSet<_>>() {
        let method = "subscriptions/listen";
        let admitted = hub.admitted(context, scope, method, &uri, JsonObject::new());
        let (upstream, own, permit) = admitted.await?;
        let wait = upstream.server.start_timeout + upstream.server.timeout;
        let begun = upstream.within(context.time_left(wait), async {
            let connection = upstream.own_connection(context).await?;
            let filter = SubscriptionFilter::builder().resource_subscription(own).build();
            let told = connection.peer().listen(filter);
            let told = upstream.within(upstream.server.timeout, async {
                told.await.map_err(|fault| upstream.failed(fault))
            });
            Ok((told.await?, connection))
        });
        let ((told, connection), place) = permit.begun(begun.await)?;
        // The connection stays as long as somebody listens, and so does the place under the rule's limit.
        let kept = (connection, place);
        let updates = unfold((told, kept, uri), |(mut told, kept, uri)| async {
            loop {
                let change = told.next().await.ok().flatten()?;
                if matches!(change, ServerNotification::ResourceUpdatedNotification(_)) {
                    return Some((Some(uri.clone()), (told, kept, uri)));
                }
            }
        });
        all.push(updates.chain(once(ready(None))).boxed());
    }
    Ok(select_all(all).boxed())
}

/// Tells the client of what it listens to, until it goes away or a server no longer tells: then it may
/// listen anew.
pub(super) async fn pass(
    context: &SubscriptionContext,
    lists: BoxStream<'static, Change>,
    updates: BoxStream<'static, Option<String>>,
) {
    let sink = context.sink();
    let lists = lists.map(Ok);
    let mut all = select_all([lists.boxed(), updates.map(Err).boxed()]);
    loop {
        let told = tokio::select! {
            () = context.cancelled() => return,
            Some(told) = all.next() => told,
            else => return context.cancelled().await,
        };
        let sent = match told {
            Ok(Change::Tools) => sink.notify_tool_list_changed().await,
            Ok(Change::Prompts) => sink.notify_prompt_list_changed().await,
            Ok(Change::Resources) => sink.notify_resource_list_changed().await,
            Err(None) => return,
            Err(Some(uri)) => sink.notify_resource_updated(uri).await,
        };
        match sent {
            Ok(()) | Err(SubscriptionSendError::NotificationNotAccepted(_)) => {}
            Err(_) => return,
        }
    }
}
