//! The ledger in PostgreSQL, for any number of replicas.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{PgConnection, PgPool, Row as _};
use types::{Clock, NanoUsd, ReservationId, TenantId, UserId};

use crate::ledger::rules::{Kept, conflict, counted, cover};
use crate::ledger::{Ledger, Reservation, Statement};
use crate::usage::{self, Audited, Cost, Group, Usage};
use crate::{Error, Period};

/// How long a call waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(2);

/// How long one statement may take; the server ends it, and the call fails, when it takes longer.
const STATEMENT_MS: &str = "5000";

/// How many holds one transaction of the sweeper ends.
const SWEPT: i64 = 500;

/// The ledger in a PostgreSQL database.
///
/// Whoever changes what a user spent or holds takes that user's advisory lock first, until the
/// commit: what was read under it stays true, and no two replicas take locks in another order.
pub struct Postgres {
    pool: PgPool,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

impl Postgres {
    /// Opens the ledger at `url` (`postgres://user:password@host/database`) with at most
    /// `connections` connections.
    ///
    /// # Errors
    /// If `url` is malformed, the server does not answer, or its migrations fail.
    pub async fn open(url: &str, connections: u32, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let options: PgConnectOptions = url.parse().context("a malformed address")?;
        let options = options
            .application_name("baton-budget")
            .options([("statement_timeout", STATEMENT_MS), ("synchronous_commit", "on")]);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE)
            .connect_with(options)
            .await?;
        sqlx::migrate!("migrations/postgres").run(&pool).await?;
        Ok(Self { pool, clock })
    }

    async fn find(
        &self,
        db: &mut PgConnection,
        tenant: &TenantId,
        id: &ReservationId,
    ) -> Result<Option<Kept>, Error> {
        let row = sqlx::query(
            "SELECT payer, amount, settled, state, expires_at
             FROM reservations WHERE tenant = $1 AND id = $2",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .fetch_optional(db)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Kept {
            user: row.try_get(0)?,
            amount: row.try_get(1)?,
            settled: row.try_get(2)?,
            state: row.try_get(3)?,
            expires_at: row.try_get(4)?,
        }))
    }

    /// Ends a reservation that is in one of the states `from`; returns it as it is if it was not.
    async fn end(
        &self,
        tenant: &TenantId,
        id: &ReservationId,
        from: &[&str],
        state: &'static str,
        settled: Option<NanoUsd>,
    ) -> Result<Ended, Error> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "SELECT pg_advisory_xact_lock(hashtextextended(tenant || chr(31) || payer, 0))
             FROM reservations WHERE tenant = $1 AND id = $2",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        let ended = sqlx::query(
            "UPDATE reservations SET state = $3, settled = $4, ended_at = $5
             WHERE tenant = $1 AND id = $2 AND state = ANY($6)",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(state)
        .bind(settled.map(NanoUsd::nanos))
        .bind(self.clock.now_ms())
        .bind(from)
        .execute(&mut *tx)
        .await?;
        if ended.rows_affected() == 0 {
            return Ok(Ended::Before(self.find(&mut tx, tenant, id).await?));
        }
        tx.commit().await?;
        Ok(Ended::Now)
    }
}

/// Lets a hold that is found to last, under its user's lock, end later.
async fn lengthen(db: &mut PgConnection, wanted: &Reservation, until: i64) -> Result<(), Error> {
    let longer = sqlx::query(
        "UPDATE reservations SET expires_at = greatest(expires_at, $3)
         WHERE tenant = $1 AND id = $2 AND state = 'held'",
    )
    .bind(wanted.tenant.as_str())
    .bind(wanted.id.as_str())
    .bind(until)
    .execute(db)
    .await?;
    match longer.rows_affected() {
        0 => Err(conflict(&wanted.id, "ended meanwhile")),
        _ => Ok(()),
    }
}

/// What became of an attempt to end a reservation.
enum Ended {
    Now,
    /// It is in another state, or there is none.
    Before(Option<Kept>),
}

#[async_trait]
impl Ledger for Postgres {
    async fn reserve(&self, wanted: &Reservation) -> Result<i64, Error> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, &wanted.tenant, &wanted.user).await?;
        let now = self.clock.now_ms();
        if let Some(kept) = self.find(&mut tx, &wanted.tenant, &wanted.id).await? {
            let Some(until) = kept.lengthened(wanted, now) else { return kept.repeated(wanted) };
            lengthen(&mut tx, wanted, until).await?;
            tx.commit().await?;
            return Ok(until);
        }
        for state in read(&mut tx, &wanted.tenant, &wanted.user, &Period::ALL, now).await? {
            cover(wanted, &state, now)?;
        }
        let expires_at = now.saturating_add(i64::from(wanted.ttl_ms));
        let made = sqlx::query(
            "INSERT INTO reservations
               (tenant, id, payer, amount, state, counted, made_at, expires_at)
             VALUES ($1, $2, $3, $4, 'held', $5::JSONB, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(wanted.tenant.as_str())
        .bind(wanted.id.as_str())
        .bind(wanted.user.as_str())
        .bind(wanted.amount.nanos())
        .bind(counted(&Period::ALL, now))
        .bind(now)
        .bind(expires_at)
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() == 0 {
            // A call under another user's lock, or a release, took the id since it was looked for.
            return Err(conflict(&wanted.id, "taken by another call"));
        }
        tx.commit().await?;
        Ok(expires_at)
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        id: &ReservationId,
        amount: NanoUsd,
    ) -> Result<(), Error> {
        match self.end(tenant, id, &["held", "expired"], "settled", Some(amount)).await? {
            Ended::Now => Ok(()),
            Ended::Before(kept) => {
                kept.ok_or_else(|| Error::Unknown(id.clone()))?.settled_before(id, amount)
            }
        }
    }

    async fn release(
        &self,
        tenant: &TenantId,
        user: &UserId,
        id: &ReservationId,
    ) -> Result<(), Error> {
        // Marked first: a reserve that comes at the same time finds it, or is found here.
        let marked = sqlx::query(
            "INSERT INTO reservations
               (tenant, id, payer, amount, state, counted, made_at, expires_at, ended_at)
             VALUES ($1, $2, $3, 0, 'released', '[]', $4, $4, $4) ON CONFLICT DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(user.as_str())
        .bind(self.clock.now_ms())
        .execute(&self.pool)
        .await?;
        if marked.rows_affected() == 1 {
            return Ok(());
        }
        match self.end(tenant, id, &["held"], "released", None).await? {
            Ended::Before(Some(kept)) => kept.released_before(id),
            Ended::Before(None) | Ended::Now => Ok(()),
        }
    }

    async fn expire(&self) -> Result<u64, Error> {
        let over = sqlx::query(
            "SELECT tenant, id FROM reservations WHERE state = 'held' AND expires_at <= $1
             ORDER BY expires_at LIMIT $2",
        )
        .bind(self.clock.now_ms())
        .bind(SWEPT)
        .fetch_all(&self.pool)
        .await?;
        let mut count = 0;
        // One transaction each: two sweepers, or a sweeper and a settlement, never hold two locks.
        for row in &over {
            let tenant = TenantId::new(row.try_get::<String, _>(0)?)?;
            let id = ReservationId::new(row.try_get::<String, _>(1)?)?;
            let ended = self.end(&tenant, &id, &["held"], "expired", None).await?;
            count += u64::from(matches!(ended, Ended::Now));
        }
        Ok(count)
    }

    async fn set_limit(
        &self,
        tenant: &TenantId,
        user: &UserId,
        period: Period,
        limit: NanoUsd,
    ) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO limits (tenant, payer, period, amount) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant, payer, period) DO UPDATE SET amount = excluded.amount",
        )
        .bind(tenant.as_str())
        .bind(user.as_str())
        .bind(period.as_str())
        .bind(limit.nanos())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn statement(
        &self,
        tenant: &TenantId,
        user: &UserId,
        period: Period,
    ) -> Result<Statement, Error> {
        let mut connection = self.pool.acquire().await?;
        let now = self.clock.now_ms();
        let states = read(&mut connection, tenant, user, &[period], now).await?;
        states.into_iter().next().ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    async fn top_spenders(
        &self,
        tenant: &TenantId,
        period: Period,
        limit: u32,
    ) -> Result<Vec<Statement>, Error> {
        let now = self.clock.now_ms();
        let mut connection = self.pool.acquire().await?;
        let rows = sqlx::query(
            "SELECT payer FROM balances
             WHERE tenant = $1 AND period = $2 AND starts_at = $3 AND spent > 0
             ORDER BY spent DESC, payer COLLATE \"C\" LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(period.as_str())
        .bind(period.bounds(now).0)
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await?;
        let mut statements = Vec::with_capacity(rows.len());
        for row in rows {
            let user = UserId::new(row.try_get::<String, _>(0)?)?;
            statements.extend(read(&mut connection, tenant, &user, &[period], now).await?);
        }
        Ok(statements)
    }

    async fn record(&self, usages: &[Usage]) -> Result<(), Error> {
        usage::postgres::record(&self.pool, usages, self.clock.now_ms()).await
    }

    async fn costs(
        &self,
        tenant: &TenantId,
        groups: &[Group],
        time: (i64, i64),
    ) -> Result<Vec<Cost>, Error> {
        usage::postgres::list(&self.pool, tenant, groups, time).await
    }

    async fn audited(
        &self,
        tenant: &TenantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Audited>, Error> {
        usage::postgres::audited(&self.pool, tenant, after, limit).await
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
}

/// Waits until nobody else changes what `user` spent or holds, and keeps it so until the commit.
async fn lock(db: &mut PgConnection, tenant: &TenantId, user: &UserId) -> Result<(), Error> {
    // Ids hold no control characters, so the separator keeps pairs apart.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1 || chr(31) || $2, 0))")
        .bind(tenant.as_str())
        .bind(user.as_str())
        .execute(db)
        .await?;
    Ok(())
}

/// Reads a user's state in the periods that hold `now`. Holds whose time is over do not count, also
/// before the sweeper has found them.
async fn read(
    db: &mut PgConnection,
    tenant: &TenantId,
    user: &UserId,
    periods: &[Period],
    now: i64,
) -> Result<Vec<Statement>, Error> {
    let bounds = periods.iter().map(|period| period.bounds(now));
    let (starts, ends): (Vec<i64>, Vec<i64>) =
        bounds.map(|(start, end)| (start, end.unwrap_or(i64::MAX))).unzip();
    let names: Vec<&str> = periods.iter().map(|period| period.as_str()).collect();
    let rows = sqlx::query(
        "SELECT limits.amount, coalesce(spent, 0), coalesce(held, 0) - coalesce((
             SELECT sum(amount) FROM reservations
             WHERE state = 'held' AND expires_at <= $6 AND tenant = $1 AND payer = $2
               AND made_at >= wanted.starts_at AND made_at < wanted.ends_at), 0)::BIGINT
         FROM unnest($3::TEXT[], $4::BIGINT[], $5::BIGINT[]) WITH ORDINALITY
             AS wanted (period, starts_at, ends_at, place)
         LEFT JOIN limits ON limits.tenant = $1 AND limits.payer = $2
             AND limits.period = wanted.period
         LEFT JOIN balances ON balances.tenant = $1 AND balances.payer = $2
             AND balances.period = wanted.period AND balances.starts_at = wanted.starts_at
         ORDER BY place",
    )
    .bind(tenant.as_str())
    .bind(user.as_str())
    .bind(names)
    .bind(starts)
    .bind(ends)
    .bind(now)
    .fetch_all(db)
    .await?;
    let state = |(period, row): (&Period, &PgRow)| -> Result<Statement, Error> {
        Ok(Statement {
            user: user.clone(),
            period: *period,
            limit: row.try_get::<Option<i64>, _>(0)?.map(NanoUsd::new),
            spent: NanoUsd::new(row.try_get(1)?),
            held: NanoUsd::new(row.try_get(2)?),
        })
    };
    periods.iter().zip(&rows).map(state).collect()
}
