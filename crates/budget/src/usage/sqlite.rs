//! Usage in SQLite.

use rusqlite::{Connection, OptionalExtension as _, params};
use sqlx::{Row as _, SqlitePool};
use types::TenantId;

use super::{Audited, Calls, Cost, Group, Usage, chained, costs};
use crate::ledger::sqlite::moves;
use crate::{Error, Rules};

/// Keeps rows and settles their reservations, all or nothing; rows that are known change nothing.
pub(crate) fn record(
    db: &Connection,
    rules: &Rules,
    usages: &[Usage],
    now: i64,
) -> Result<(), Error> {
    let run = |statement: &str| -> rusqlite::Result<()> {
        db.prepare_cached(statement)?.execute([]).map(drop)
    };
    let settles: Vec<_> =
        usages.iter().filter_map(|usage| usage.settles().transpose()).collect::<Result<_, _>>()?;
    run("SAVEPOINT record")?;
    let done = usages.iter().try_for_each(|usage| keep(db, usage));
    let done = done.and_then(|()| moves::settle(db, rules, &settles, now));
    if done.is_err() {
        run("ROLLBACK TO record")?;
    }
    run("RELEASE record")?;
    done
}

fn keep(db: &Connection, usage: &Usage) -> Result<(), Error> {
    if usage.is_private() {
        audit(db, usage)?;
    }
    let mut statement = db.prepare_cached(
        "INSERT INTO usage (id, tenant, team, payer, key, run, route, provider, model, tier, input_tokens,
           cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, estimated, cost,
           started_at, latency_micros, first_token_micros, outcome, privacy, prompt_version, reason,
           request_id, reservation)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )?;
    statement.execute(params![
        usage.id,
        usage.tenant,
        usage.team,
        usage.payer,
        usage.key,
        usage.run,
        usage.route,
        usage.provider,
        usage.model,
        usage.tier,
        usage.input_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.estimated,
        usage.cost,
        usage.started_at,
        usage.latency_micros,
        usage.first_token_micros,
        usage.outcome,
        usage.privacy,
        usage.prompt_version,
        usage.reason,
        usage.request_id,
        usage.reservation,
    ])?;
    Ok(())
}

fn audit(db: &Connection, usage: &Usage) -> Result<(), Error> {
    let mut known = db.prepare_cached("SELECT 1 FROM usage WHERE id = ?")?;
    if known.exists([&usage.id])? {
        return Ok(());
    }
    let mut last = db.prepare_cached(
        "SELECT number, hash FROM audit WHERE tenant = ? ORDER BY number DESC LIMIT 1",
    )?;
    let last = last.query_row([&usage.tenant], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (number, before): (i64, Vec<u8>) = last.unwrap_or_else(|| (0, vec![0; 32]));
    let record = usage.audited();
    let mut add =
        db.prepare_cached("INSERT INTO audit (tenant, number, record, hash) VALUES (?, ?, ?, ?)")?;
    add.execute(params![usage.tenant, number + 1, record, chained(&before, &record)])?;
    Ok(())
}

pub(crate) async fn audited(
    pool: &SqlitePool,
    tenant: &TenantId,
    after: i64,
    limit: u32,
) -> Result<Vec<Audited>, Error> {
    let rows = sqlx::query(
        "SELECT number, record, hash FROM audit WHERE tenant = ? AND number > ?
         ORDER BY number LIMIT ?",
    )
    .bind(tenant.as_str())
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let read = |row: &sqlx::sqlite::SqliteRow| {
        let (number, record) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Audited { number, record, hash: row.try_get(2)? })
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn list(
    pool: &SqlitePool,
    calls: &Calls,
    groups: &[Group],
) -> Result<Vec<Cost>, Error> {
    let query = costs(calls, groups, "date(started_at / 1000, 'unixepoch')", "");
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(calls.tenant.as_str())
        .bind(calls.from_ms)
        .bind(calls.to_ms)
        .bind(calls.scope.name())
        .fetch_all(pool)
        .await?;
    let read = |row: &sqlx::sqlite::SqliteRow| {
        let at = groups.len();
        Ok(Cost {
            group: (0..at).map(|at| row.try_get(at)).collect::<Result<_, _>>()?,
            calls: row.try_get(at)?,
            failed: row.try_get(at + 1)?,
            input_tokens: row.try_get(at + 2)?,
            output_tokens: row.try_get(at + 3)?,
            cost: row.try_get(at + 4)?,
            mean_latency_micros: row.try_get(at + 5)?,
            mean_first_token_micros: row.try_get(at + 6)?,
        })
    };
    rows.iter().map(read).collect()
}
