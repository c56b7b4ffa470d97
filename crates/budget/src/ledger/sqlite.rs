//! The ledger in one SQLite file.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row as _, Sqlite as Database, SqliteConnection, SqlitePool, Transaction};
use types::{Clock, NanoUsd, ReservationId, TenantId, UserId};

use crate::ledger::rules::{Kept, cover};
use crate::ledger::{Ledger, Reservation, Statement};
use crate::{Error, Period};

/// The ledger in one SQLite file (WAL): kill -9 loses nothing that was acknowledged.
pub struct Sqlite {
    pool: SqlitePool,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the ledger at `path`, made when missing.
    ///
    /// # Errors
    /// If the file cannot be opened or its migrations fail.
    pub async fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        if let Some(directory) = path.as_ref().parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        // One connection: SQLite has one writer, and a queue here is fairer than its busy timeout.
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await?;
        Ok(Self { pool, clock })
    }

    /// Takes the write lock at once, so that what is read stays true until the commit.
    async fn begin(&self) -> Result<Transaction<'static, Database>, Error> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }
}

#[async_trait]
impl Ledger for Sqlite {
    async fn reserve(&self, wanted: &Reservation) -> Result<i64, Error> {
        let mut tx = self.begin().await?;
        let now = self.clock.now_ms();
        if let Some(kept) = find(&mut tx, &wanted.tenant, &wanted.id).await? {
            return kept.repeated(wanted);
        }
        for period in Period::ALL {
            let state = read(&mut tx, &wanted.tenant, &wanted.user, period, now).await?;
            cover(wanted, &state, now)?;
        }
        let expires_at = now.saturating_add(i64::from(wanted.ttl_ms));
        sqlx::query(
            "INSERT INTO reservations (tenant, id, user, amount, state, made_at, expires_at)
             VALUES (?, ?, ?, ?, 'held', ?, ?)",
        )
        .bind(wanted.tenant.as_str())
        .bind(wanted.id.as_str())
        .bind(wanted.user.as_str())
        .bind(wanted.amount.nanos())
        .bind(now)
        .bind(expires_at)
        .execute(&mut *tx)
        .await?;
        let (tenant, user) = (wanted.tenant.as_str(), wanted.user.as_str());
        add(&mut tx, tenant, user, now, 0, wanted.amount.nanos()).await?;
        enter(&mut tx, tenant, user, wanted.id.as_str(), "hold", wanted.amount.nanos(), now)
            .await?;
        tx.commit().await?;
        Ok(expires_at)
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        id: &ReservationId,
        amount: NanoUsd,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let now = self.clock.now_ms();
        let kept = find(&mut tx, tenant, id).await?.ok_or_else(|| Error::Unknown(id.clone()))?;
        let Some(freed) = kept.to_settle(id, amount)? else { return Ok(()) };
        end(&mut tx, tenant.as_str(), id.as_str(), "settled", Some(amount.nanos())).await?;
        add(&mut tx, tenant.as_str(), &kept.user, kept.made_at, amount.nanos(), -freed).await?;
        let (tenant, id) = (tenant.as_str(), id.as_str());
        enter(&mut tx, tenant, &kept.user, id, "settle", amount.nanos(), now).await?;
        Ok(tx.commit().await?)
    }

    async fn release(
        &self,
        tenant: &TenantId,
        user: &UserId,
        id: &ReservationId,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let now = self.clock.now_ms();
        let Some(kept) = find(&mut tx, tenant, id).await? else {
            sqlx::query(
                "INSERT INTO reservations (tenant, id, user, amount, state, made_at, expires_at)
                 VALUES (?, ?, ?, 0, 'released', ?, ?)",
            )
            .bind(tenant.as_str())
            .bind(id.as_str())
            .bind(user.as_str())
            .bind(now)
            .bind(now)
            .execute(&mut *tx)
            .await?;
            return Ok(tx.commit().await?);
        };
        if !kept.to_release(id)? {
            return Ok(());
        }
        free(&mut tx, tenant.as_str(), id.as_str(), &kept, "released", "release", now).await?;
        Ok(tx.commit().await?)
    }

    async fn expire(&self) -> Result<u64, Error> {
        let mut tx = self.begin().await?;
        let now = self.clock.now_ms();
        let rows = sqlx::query(
            "SELECT user, amount, settled, state, made_at, expires_at, tenant, id
             FROM reservations WHERE state = 'held' AND expires_at <= ?",
        )
        .bind(now)
        .fetch_all(&mut *tx)
        .await?;
        for row in &rows {
            let (tenant, id): (String, String) = (row.try_get(6)?, row.try_get(7)?);
            free(&mut tx, &tenant, &id, &kept(row)?, "expired", "expire", now).await?;
        }
        tx.commit().await?;
        Ok(rows.len() as u64)
    }

    async fn set_limit(
        &self,
        tenant: &TenantId,
        user: &UserId,
        period: Period,
        limit: NanoUsd,
    ) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO limits (tenant, user, period, amount) VALUES (?, ?, ?, ?)
             ON CONFLICT (tenant, user, period) DO UPDATE SET amount = excluded.amount",
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
        read(&mut connection, tenant, user, period, self.clock.now_ms()).await
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
            "SELECT user FROM balances
             WHERE tenant = ? AND period = ? AND starts_at = ? AND spent > 0
             ORDER BY spent DESC, user LIMIT ?",
        )
        .bind(tenant.as_str())
        .bind(period.as_str())
        .bind(period.bounds(now).0)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
        let mut statements = Vec::with_capacity(rows.len());
        for row in rows {
            let user = UserId::new(row.try_get::<String, _>(0)?)?;
            statements.push(read(&mut connection, tenant, &user, period, now).await?);
        }
        Ok(statements)
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
}

fn kept(row: &SqliteRow) -> Result<Kept, sqlx::Error> {
    Ok(Kept {
        user: row.try_get(0)?,
        amount: row.try_get(1)?,
        settled: row.try_get(2)?,
        state: row.try_get(3)?,
        made_at: row.try_get(4)?,
        expires_at: row.try_get(5)?,
    })
}

async fn find(
    db: &mut SqliteConnection,
    tenant: &TenantId,
    id: &ReservationId,
) -> Result<Option<Kept>, Error> {
    let row = sqlx::query(
        "SELECT user, amount, settled, state, made_at, expires_at
         FROM reservations WHERE tenant = ? AND id = ?",
    )
    .bind(tenant.as_str())
    .bind(id.as_str())
    .fetch_optional(db)
    .await?;
    Ok(row.as_ref().map(kept).transpose()?)
}

/// Reads a user's state in the period that holds `now`. Holds whose time is over do not count, also
/// before the sweeper has found them.
async fn read(
    db: &mut SqliteConnection,
    tenant: &TenantId,
    user: &UserId,
    period: Period,
    now: i64,
) -> Result<Statement, Error> {
    let (start, end) = period.bounds(now);
    let row = sqlx::query(
        "SELECT
           (SELECT amount FROM limits WHERE tenant = ?1 AND user = ?2 AND period = ?3),
           coalesce((SELECT spent FROM balances
             WHERE tenant = ?1 AND user = ?2 AND period = ?3 AND starts_at = ?4), 0),
           coalesce((SELECT held FROM balances
             WHERE tenant = ?1 AND user = ?2 AND period = ?3 AND starts_at = ?4), 0),
           coalesce((SELECT sum(amount) FROM reservations
             WHERE state = 'held' AND expires_at <= ?5 AND tenant = ?1 AND user = ?2
               AND made_at >= ?4 AND made_at < ?6), 0)",
    )
    .bind(tenant.as_str())
    .bind(user.as_str())
    .bind(period.as_str())
    .bind(start)
    .bind(now)
    .bind(end.unwrap_or(i64::MAX))
    .fetch_one(db)
    .await?;
    let (held, over): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Statement {
        user: user.clone(),
        period,
        limit: row.try_get::<Option<i64>, _>(0)?.map(NanoUsd::new),
        spent: NanoUsd::new(row.try_get(1)?),
        held: NanoUsd::new(held - over),
    })
}

/// Ends a hold and gives its money back.
async fn free(
    db: &mut SqliteConnection,
    tenant: &str,
    id: &str,
    kept: &Kept,
    state: &'static str,
    kind: &'static str,
    now: i64,
) -> Result<(), Error> {
    end(db, tenant, id, state, None).await?;
    add(db, tenant, &kept.user, kept.made_at, 0, -kept.amount).await?;
    enter(db, tenant, &kept.user, id, kind, kept.amount, now).await
}

async fn end(
    db: &mut SqliteConnection,
    tenant: &str,
    id: &str,
    state: &str,
    settled: Option<i64>,
) -> Result<(), Error> {
    sqlx::query("UPDATE reservations SET state = ?, settled = ? WHERE tenant = ? AND id = ?")
        .bind(state)
        .bind(settled)
        .bind(tenant)
        .bind(id)
        .execute(db)
        .await?;
    Ok(())
}

/// Adds to what a user spent and holds, in every period that holds `made_at`.
async fn add(
    db: &mut SqliteConnection,
    tenant: &str,
    user: &str,
    made_at: i64,
    spent: i64,
    held: i64,
) -> Result<(), Error> {
    for period in Period::ALL {
        // Two steps: an upsert would check `held >= 0` on the row that it does not insert.
        let start = period.bounds(made_at).0;
        sqlx::query(
            "INSERT OR IGNORE INTO balances (tenant, user, period, starts_at) VALUES (?, ?, ?, ?)",
        )
        .bind(tenant)
        .bind(user)
        .bind(period.as_str())
        .bind(start)
        .execute(&mut *db)
        .await?;
        sqlx::query(
            "UPDATE balances SET spent = spent + ?, held = held + ?
             WHERE tenant = ? AND user = ? AND period = ? AND starts_at = ?",
        )
        .bind(spent)
        .bind(held)
        .bind(tenant)
        .bind(user)
        .bind(period.as_str())
        .bind(start)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

async fn enter(
    db: &mut SqliteConnection,
    tenant: &str,
    user: &str,
    id: &str,
    kind: &str,
    amount: i64,
    now: i64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO entries (tenant, user, reservation, kind, amount, at) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(tenant)
    .bind(user)
    .bind(id)
    .bind(kind)
    .bind(amount)
    .bind(now)
    .execute(db)
    .await?;
    Ok(())
}
