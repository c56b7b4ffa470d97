//! What is said to a database; the same to each, of which `Db` is one.

use sqlx::{Pool, QueryBuilder, Row as _, Transaction};
use types::TenantId;

use super::Db;
use crate::store::{Call, Decider, Known, Pin, Seen, State, WAITING};
use crate::{Digest, Error};

type Tx = Transaction<'static, Db>;
type Row = <Db as sqlx::Database>::Row;

/// How many calls are removed at once.
const SWEPT: i64 = 5_000;

pub(super) async fn revision(pool: &Pool<Db>) -> Result<i64, Error> {
    let row = sqlx::query("SELECT revision FROM tool_pins_revision").fetch_one(pool).await?;
    Ok(row.try_get(0)?)
}

pub(super) async fn known(pool: &Pool<Db>) -> Result<Vec<Known>, Error> {
    let rows = sqlx::query("SELECT server, tool, digest, state FROM tool_pins").fetch_all(pool);
    rows.await?.iter().map(to_known).collect()
}

/// Takes the pins for this transaction alone; whoever reads the revision sees all of it or nothing.
async fn lock(tx: &mut Tx) -> Result<(), Error> {
    sqlx::query("UPDATE tool_pins_revision SET revision = revision + 1").execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn see(
    tx: &mut Tx,
    now_ms: i64,
    server: &str,
    seen: &[Seen],
) -> Result<(), Error> {
    lock(tx).await?;
    for one in seen {
        // The first sight is that of the tool, whatever became of it since.
        let first = sqlx::query("SELECT 1 FROM tool_pins WHERE server = $1 AND tool = $2 LIMIT 1")
            .bind(server)
            .bind(&one.tool)
            .fetch_optional(&mut **tx)
            .await?
            .is_none();
        let state = if first && one.trusted { State::Approved } else { State::Waiting };
        let made = sqlx::query(
            "INSERT INTO tool_pins (server, tool, digest, definition, findings, state, seen_at, decided_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        )
        .bind(server)
        .bind(&one.tool)
        .bind(one.digest.bytes().as_slice())
        .bind(&one.definition)
        .bind(serde_json::json!(one.findings).to_string())
        .bind(state.to_number())
        .bind(now_ms)
        .bind((state == State::Approved).then_some(now_ms))
        .execute(&mut **tx)
        .await?;
        if made.rows_affected() == 0 {
            continue;
        }
        if state == State::Approved {
            let known = (server, one.tool.as_str(), one.digest, state);
            remember(tx, now_ms, known, None).await?;
        }
        if first {
            continue;
        }
        // A server that changes its mind all the time does not fill the store.
        sqlx::query(
            "DELETE FROM tool_pins WHERE server = $1 AND tool = $2 AND state = 0 AND digest NOT IN
               (SELECT digest FROM tool_pins WHERE server = $1 AND tool = $2 AND state = 0
                ORDER BY seen_at DESC, digest LIMIT $3)",
        )
        .bind(server)
        .bind(&one.tool)
        .bind(WAITING)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

async fn remember(
    tx: &mut Tx,
    now_ms: i64,
    (server, tool, digest, state): (&str, &str, Digest, State),
    by: Option<&str>,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO tool_decisions (at, server, tool, digest, state, decided_by)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(now_ms)
    .bind(server)
    .bind(tool)
    .bind(digest.bytes().as_slice())
    .bind(state.to_number())
    .bind(by)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn pins(
    pool: &Pool<Db>,
    server: Option<&str>,
    tool: Option<&str>,
) -> Result<Vec<Pin>, Error> {
    let rows = sqlx::query(
        "SELECT server, tool, digest, state, definition, findings, seen_at, decided_at, decided_by
         FROM tool_pins WHERE ($1 IS NULL OR server = $1) AND ($2 IS NULL OR tool = $2)
         ORDER BY server, tool, seen_at DESC, digest",
    )
    .bind(server)
    .bind(tool)
    .fetch_all(pool)
    .await?;
    rows.iter().map(to_pin).collect()
}

pub(super) async fn decide(
    tx: &mut Tx,
    now_ms: i64,
    pin: &Known,
    by: &Decider,
) -> Result<bool, Error> {
    lock(tx).await?;
    let by = serde_json::to_string(by).map_err(Error::unreadable)?;
    if pin.state == State::Approved {
        sqlx::query(
            "UPDATE tool_pins SET state = 3 WHERE server = $1 AND tool = $2 AND state = 1 AND digest <> $3",
        )
        .bind(&pin.server)
        .bind(&pin.tool)
        .bind(pin.digest.bytes().as_slice())
        .execute(&mut **tx)
        .await?;
    }
    let decided = sqlx::query(
        "UPDATE tool_pins SET state = $4, decided_at = $5, decided_by = $6
         WHERE server = $1 AND tool = $2 AND digest = $3",
    )
    .bind(&pin.server)
    .bind(&pin.tool)
    .bind(pin.digest.bytes().as_slice())
    .bind(pin.state.to_number())
    .bind(now_ms)
    .bind(&by)
    .execute(&mut **tx)
    .await?;
    if decided.rows_affected() == 0 {
        return Ok(false);
    }
    let known = (pin.server.as_str(), pin.tool.as_str(), pin.digest, pin.state);
    remember(tx, now_ms, known, Some(&by)).await?;
    Ok(true)
}

pub(super) async fn record(tx: &mut Tx, calls: &[Call]) -> Result<(), Error> {
    let mut insert = QueryBuilder::<Db>::new(
        "INSERT INTO tool_calls (at, tenant, team, user_id, key_id, run, privacy, server, tool, pin,
           arguments, decision, rule, outcome, micros, trace, request) ",
    );
    insert.push_values(calls, |mut row, call| {
        row.push_bind(call.at)
            .push_bind(&call.tenant)
            .push_bind(&call.team)
            .push_bind(&call.user)
            .push_bind(&call.key)
            .push_bind(&call.run)
            .push_bind(&call.privacy)
            .push_bind(&call.server)
            .push_bind(&call.tool)
            .push_bind(call.pin.as_ref().map(|pin| pin.bytes().as_slice()))
            .push_bind(call.arguments.bytes().as_slice())
            .push_bind(&call.decision)
            .push_bind(&call.rule)
            .push_bind(&call.outcome)
            .push_bind(call.micros)
            .push_bind(&call.trace)
            .push_bind(&call.request);
    });
    insert.build().execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn calls(
    pool: &Pool<Db>,
    tenant: &TenantId,
    before: Option<i64>,
    most: u32,
) -> Result<Vec<(i64, Call)>, Error> {
    let rows = sqlx::query(
        "SELECT id, at, tenant, team, user_id, key_id, run, privacy, server, tool, pin, arguments,
           decision, rule, outcome, micros, trace, request
         FROM tool_calls WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(before.unwrap_or(i64::MAX))
    .bind(i64::from(most))
    .fetch_all(pool)
    .await?;
    rows.iter().map(to_call).collect()
}

pub(super) async fn forget(pool: &Pool<Db>, until_ms: i64) -> Result<u64, Error> {
    let gone = sqlx::query(
        "DELETE FROM tool_calls WHERE id IN (SELECT id FROM tool_calls WHERE at < $1 LIMIT $2)",
    )
    .bind(until_ms)
    .bind(SWEPT)
    .execute(pool)
    .await?;
    Ok(gone.rows_affected())
}

pub(super) async fn secret(pool: &Pool<Db>, name: &str, fresh: &[u8]) -> Result<Vec<u8>, Error> {
    sqlx::query("INSERT INTO tool_secrets (name, secret) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(name)
        .bind(fresh)
        .execute(pool)
        .await?;
    let row = sqlx::query("SELECT secret FROM tool_secrets WHERE name = $1").bind(name);
    Ok(row.fetch_one(pool).await?.try_get(0)?)
}

fn digest(row: &Row, column: &str) -> Result<Digest, Error> {
    let bytes: Vec<u8> = row.try_get(column)?;
    <[u8; 32]>::try_from(bytes).map(Digest::from).map_err(|_| Error::unreadable(column))
}

fn to_known(row: &Row) -> Result<Known, Error> {
    Ok(Known {
        server: row.try_get("server")?,
        tool: row.try_get("tool")?,
        digest: digest(row, "digest")?,
        state: State::from_number(row.try_get("state")?),
    })
}

fn to_pin(row: &Row) -> Result<Pin, Error> {
    let by: Option<String> = row.try_get("decided_by")?;
    let findings: String = row.try_get("findings")?;
    Ok(Pin {
        known: to_known(row)?,
        definition: row.try_get("definition")?,
        findings: serde_json::from_str(&findings).map_err(Error::unreadable)?,
        seen_at: row.try_get("seen_at")?,
        decided_at: row.try_get("decided_at")?,
        decided_by: by
            .map(|by| serde_json::from_str(&by).map_err(Error::unreadable))
            .transpose()?,
    })
}

fn to_call(row: &Row) -> Result<(i64, Call), Error> {
    let pin: Option<Vec<u8>> = row.try_get("pin")?;
    let call = Call {
        at: row.try_get("at")?,
        tenant: row.try_get("tenant")?,
        team: row.try_get("team")?,
        user: row.try_get("user_id")?,
        key: row.try_get("key_id")?,
        run: row.try_get("run")?,
        privacy: row.try_get("privacy")?,
        server: row.try_get("server")?,
        tool: row.try_get("tool")?,
        pin: pin.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).map(Digest::from),
        arguments: digest(row, "arguments")?,
        decision: row.try_get("decision")?,
        rule: row.try_get("rule")?,
        outcome: row.try_get("outcome")?,
        micros: row.try_get("micros")?,
        trace: row.try_get("trace")?,
        request: row.try_get("request")?,
    };
    Ok((row.try_get("id")?, call))
}
