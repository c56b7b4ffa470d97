//! Usage in PostgreSQL.

use sqlx::{PgConnection, PgPool, Row as _};
use types::TenantId;

use super::{Audited, Calls, Cost, Group, Usage, chained, costs};
use crate::Error;

/// Keeps rows in a transaction that settles their reservations; rows that are known change nothing.
pub(crate) async fn keep(db: &mut PgConnection, usages: &[&Usage]) -> Result<(), sqlx::Error> {
    if usages.is_empty() {
        return Ok(());
    }
    let rows = serde_json::json!(usages).to_string();
    for usage in usages.iter().filter(|usage| usage.is_private()) {
        audit(db, usage).await?;
    }
    sqlx::query(
        "INSERT INTO usage (id, tenant, team, payer, key, run, route, provider, model, tier, input_tokens,
           cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, estimated, cost,
           started_at, latency_micros, first_token_micros, outcome, privacy, prompt_version, reason,
           request_id, reservation)
         SELECT id, tenant, team, payer, key, run, route, provider, model, tier, input_tokens,
           cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, estimated, cost,
           started_at, latency_micros, first_token_micros, outcome, privacy, prompt_version, reason,
           request_id, reservation
         FROM jsonb_to_recordset($1::JSONB) AS row (
           id TEXT, tenant TEXT, team TEXT, payer TEXT, key TEXT, run TEXT, route TEXT, provider
           TEXT, model TEXT, tier BIGINT, input_tokens BIGINT, cached_tokens BIGINT,
           cache_write_tokens BIGINT, output_tokens BIGINT, reasoning_tokens BIGINT, estimated
           BOOLEAN, cost BIGINT, started_at BIGINT, latency_micros BIGINT, first_token_micros
           BIGINT, outcome TEXT, privacy TEXT, prompt_version TEXT, reason TEXT, request_id TEXT,
           reservation TEXT)
         ON CONFLICT DO NOTHING",
    )
    .bind(&rows)
    .execute(db)
    .await?;
    Ok(())
}

async fn audit(db: &mut PgConnection, usage: &Usage) -> Result<(), sqlx::Error> {
    // One after another: each hash needs the one before.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('audit', 1))")
        .execute(&mut *db)
        .await?;
    let known = sqlx::query("SELECT 1 FROM usage WHERE id = $1").bind(&usage.id);
    if known.fetch_optional(&mut *db).await?.is_some() {
        return Ok(());
    }
    let last = sqlx::query(
        "SELECT number, hash FROM audit WHERE tenant = $1 ORDER BY number DESC LIMIT 1",
    )
    .bind(&usage.tenant)
    .fetch_optional(&mut *db)
    .await?;
    let (number, before) = match last {
        Some(row) => (row.try_get::<i64, _>(0)?, row.try_get(1)?),
        None => (0, vec![0; 32]),
    };
    let record = usage.audited();
    sqlx::query("INSERT INTO audit (tenant, number, record, hash) VALUES ($1, $2, $3, $4)")
        .bind(&usage.tenant)
        .bind(number + 1)
        .bind(&record)
        .bind(chained(&before, &record))
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn audited(
    pool: &PgPool,
    tenant: &TenantId,
    after: i64,
    limit: u32,
) -> Result<Vec<Audited>, Error> {
    let rows = sqlx::query(
        "SELECT number, record, hash FROM audit WHERE tenant = $1 AND number > $2
         ORDER BY number LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    let read = |row: &sqlx::postgres::PgRow| {
        let (number, record) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Audited { number, record, hash: row.try_get(2)? })
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn list(
    pool: &PgPool,
    calls: &Calls,
    groups: &[Group],
) -> Result<Vec<Cost>, Error> {
    let day = "to_char(to_timestamp(started_at / 1000) AT TIME ZONE 'utc', 'YYYY-MM-DD')";
    let rows = sqlx::query(sqlx::AssertSqlSafe(costs(calls, groups, day, "::BIGINT")))
        .bind(calls.tenant.as_str())
        .bind(calls.from_ms)
        .bind(calls.to_ms)
        .bind(calls.scope.name())
        .fetch_all(pool)
        .await?;
    let read = |row: &sqlx::postgres::PgRow| {
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
