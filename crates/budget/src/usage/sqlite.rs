//! Usage in SQLite.

use sqlx::{Row as _, SqliteConnection, SqlitePool};
use types::TenantId;

use super::{Audited, Cost, Group, Usage, chained, costs};
use crate::Error;

/// Keeps rows and settles their reservations, all or nothing; rows that are known change nothing.
pub(crate) async fn record(pool: &SqlitePool, usages: &[Usage], now: i64) -> Result<(), Error> {
    let rows = serde_json::json!(usages).to_string();
    let mut tx = pool.begin().await?;
    for usage in usages.iter().filter(|usage| usage.is_private()) {
        audit(&mut tx, usage).await?;
    }
    sqlx::query(
        "INSERT INTO usage (id, tenant, team, payer, key, run, route, provider, model, tier, input_tokens,
           cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, estimated, cost,
           started_at, latency_micros, first_token_micros, outcome, privacy, prompt_version, reason,
           request_id, reservation)
         SELECT value ->> 'id', value ->> 'tenant', value ->> 'team', value ->> 'payer', value ->> 'key',
           value ->> 'run', value ->> 'route', value ->> 'provider', value ->> 'model', value ->>
           'tier', value ->> 'input_tokens', value ->> 'cached_tokens', value ->>
           'cache_write_tokens', value ->> 'output_tokens', value ->> 'reasoning_tokens', value ->>
           'estimated', value ->> 'cost', value ->> 'started_at', value ->> 'latency_micros', value
           ->> 'first_token_micros', value ->> 'outcome', value ->> 'privacy', value ->>
           'prompt_version', value ->> 'reason', value ->> 'request_id', value ->> 'reservation'
         FROM json_each(?) WHERE true ON CONFLICT DO NOTHING",
    )
    .bind(&rows)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "UPDATE reservations SET state = 'settled', settled = value ->> 'cost', ended_at = ?2
         FROM json_each(?1)
         WHERE reservations.tenant = value ->> 'tenant'
           AND reservations.id = value ->> 'reservation'
           AND state IN ('held', 'expired')",
    )
    .bind(&rows)
    .bind(now)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

async fn audit(db: &mut SqliteConnection, usage: &Usage) -> Result<(), Error> {
    let known = sqlx::query("SELECT 1 FROM usage WHERE id = ?").bind(&usage.id);
    if known.fetch_optional(&mut *db).await?.is_some() {
        return Ok(());
    }
    let last =
        sqlx::query("SELECT number, hash FROM audit WHERE tenant = ? ORDER BY number DESC LIMIT 1")
            .bind(&usage.tenant)
            .fetch_optional(&mut *db)
            .await?;
    let (number, before) = match last {
        Some(row) => (row.try_get::<i64, _>(0)?, row.try_get(1)?),
        None => (0, vec![0; 32]),
    };
    let record = usage.audited();
    sqlx::query("INSERT INTO audit (tenant, number, record, hash) VALUES (?, ?, ?, ?)")
        .bind(&usage.tenant)
        .bind(number + 1)
        .bind(&record)
        .bind(chained(&before, &record))
        .execute(db)
        .await?;
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
    tenant: &TenantId,
    groups: &[Group],
    (from, to): (i64, i64),
) -> Result<Vec<Cost>, Error> {
    let query = costs(groups, "date(started_at / 1000, 'unixepoch')", "");
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(tenant.as_str())
        .bind(from)
        .bind(to)
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
        })
    };
    rows.iter().map(read).collect()
}
