//! The ledger in one SQLite file.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row as _, SqlitePool};
use types::{Clock, NanoUsd, ReservationId, TenantId, UserId};

use crate::ledger::rules::{Kept, conflict, counted, cover};
use crate::ledger::{Ledger, Reservation, Statement};
use crate::usage::{self, Audited, Cost, Group, Usage};
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
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await?;
        Ok(Self { pool, clock })
    }

    /// Holds money if every limit covers it and the id is new, and returns when the hold ends.
    ///
    /// Holds whose time is over still count here until they are swept.
    async fn hold(&self, wanted: &Reservation) -> Result<Option<i64>, Error> {
        let now = self.clock.now_ms();
        let expires_at = now.saturating_add(i64::from(wanted.ttl_ms));
        // Without RETURNING: a row that it returns is there before the commit, which may still fail.
        let made = sqlx::query(
            "INSERT INTO reservations
               (tenant, id, user, amount, state, counted, made_at, expires_at)
             SELECT ?1, ?2, ?3, ?4, 'held', ?5, ?6, ?7 WHERE NOT EXISTS (
               SELECT 1 FROM json_each(?5) AS counted
               JOIN limits ON limits.tenant = ?1 AND limits.user = ?3
                 AND limits.period = counted.value ->> 0
               LEFT JOIN balances ON balances.tenant = ?1 AND balances.user = ?3
                 AND balances.period = limits.period
                 AND balances.starts_at = counted.value ->> 1
               WHERE coalesce(spent, 0) + coalesce(held, 0) + ?4 > limits.amount)
             ON CONFLICT DO NOTHING",
        )
        .bind(wanted.tenant.as_str())
        .bind(wanted.id.as_str())
        .bind(wanted.user.as_str())
        .bind(wanted.amount.nanos())
        .bind(counted(&Period::ALL, now))
        .bind(now)
        .bind(expires_at)
        .execute(&self.pool)
        .await?;
        Ok((made.rows_affected() == 1).then_some(expires_at))
    }

    /// Lets a hold that is found to last end later, unless it has ended meanwhile.
    async fn lengthen(&self, wanted: &Reservation, until: i64) -> Result<i64, Error> {
        let longer = sqlx::query(
            "UPDATE reservations SET expires_at = max(expires_at, ?3)
             WHERE tenant = ?1 AND id = ?2 AND state = 'held'",
        )
        .bind(wanted.tenant.as_str())
        .bind(wanted.id.as_str())
        .bind(until)
        .execute(&self.pool)
        .await?;
        match longer.rows_affected() {
            0 => Err(conflict(&wanted.id, "ended meanwhile")),
            _ => Ok(until),
        }
    }

    async fn find(&self, tenant: &TenantId, id: &ReservationId) -> Result<Option<Kept>, Error> {
        let row = sqlx::query(
            "SELECT user, amount, settled, state, expires_at
             FROM reservations WHERE tenant = ? AND id = ?",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.pool)
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

    /// Ends a reservation that is in one of the states `from` (as JSON) and tells whether it was.
    async fn end(
        &self,
        tenant: &TenantId,
        id: &ReservationId,
        from: &'static str,
        state: &'static str,
        settled: Option<NanoUsd>,
    ) -> Result<bool, Error> {
        let ended = sqlx::query(
            "UPDATE reservations SET state = ?1, settled = ?2, ended_at = ?3
             WHERE tenant = ?4 AND id = ?5 AND state IN (SELECT value FROM json_each(?6))",
        )
        .bind(state)
        .bind(settled.map(NanoUsd::nanos))
        .bind(self.clock.now_ms())
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(from)
        .execute(&self.pool)
        .await?;
        Ok(ended.rows_affected() == 1)
    }

    /// Reads a user's state in the periods of this moment, without holds whose time is over.
    async fn read(
        &self,
        tenant: &TenantId,
        user: &UserId,
        periods: &[Period],
    ) -> Result<Vec<Statement>, Error> {
        self.expire().await?;
        let rows = sqlx::query(
            "SELECT limits.amount, coalesce(spent, 0), coalesce(held, 0)
             FROM json_each(?3) AS counted
             LEFT JOIN limits ON limits.tenant = ?1 AND limits.user = ?2
               AND limits.period = counted.value ->> 0
             LEFT JOIN balances ON balances.tenant = ?1 AND balances.user = ?2
               AND balances.period = counted.value ->> 0
               AND balances.starts_at = counted.value ->> 1
             ORDER BY counted.key",
        )
        .bind(tenant.as_str())
        .bind(user.as_str())
        .bind(counted(periods, self.clock.now_ms()))
        .fetch_all(&self.pool)
        .await?;
        let state = |(period, row): (&Period, &SqliteRow)| -> Result<Statement, Error> {
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
}

#[async_trait]
impl Ledger for Sqlite {
    async fn reserve(&self, wanted: &Reservation) -> Result<i64, Error> {
        // The second time holds whose time is over are gone, and so may be what was in the way.
        for _ in 0..2 {
            if let Some(expires_at) = self.hold(wanted).await? {
                return Ok(expires_at);
            }
            if let Some(kept) = self.find(&wanted.tenant, &wanted.id).await? {
                return match kept.lengthened(wanted, self.clock.now_ms()) {
                    Some(until) => self.lengthen(wanted, until).await,
                    None => kept.repeated(wanted),
                };
            }
            for state in self.read(&wanted.tenant, &wanted.user, &Period::ALL).await? {
                cover(wanted, &state, self.clock.now_ms())?;
            }
        }
        Err(Error::Busy)
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        id: &ReservationId,
        amount: NanoUsd,
    ) -> Result<(), Error> {
        if self.end(tenant, id, r#"["held", "expired"]"#, "settled", Some(amount)).await? {
            return Ok(());
        }
        let kept = self.find(tenant, id).await?.ok_or_else(|| Error::Unknown(id.clone()))?;
        kept.settled_before(id, amount)
    }

    async fn release(
        &self,
        tenant: &TenantId,
        user: &UserId,
        id: &ReservationId,
    ) -> Result<(), Error> {
        let now = self.clock.now_ms();
        let marked = sqlx::query(
            "INSERT INTO reservations
               (tenant, id, user, amount, state, counted, made_at, expires_at, ended_at)
             VALUES (?1, ?2, ?3, 0, 'released', '[]', ?4, ?4, ?4) ON CONFLICT DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(user.as_str())
        .bind(now)
        .execute(&self.pool)
        .await?;
        if marked.rows_affected() == 1
            || self.end(tenant, id, r#"["held"]"#, "released", None).await?
        {
            return Ok(());
        }
        let kept = self.find(tenant, id).await?.ok_or_else(|| Error::Unknown(id.clone()))?;
        kept.released_before(id)
    }

    async fn expire(&self) -> Result<u64, Error> {
        let ended = sqlx::query(
            "UPDATE reservations SET state = 'expired', ended_at = ?1
             WHERE state = 'held' AND expires_at <= ?1",
        )
        .bind(self.clock.now_ms())
        .execute(&self.pool)
        .await?;
        Ok(ended.rows_affected())
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
        let states = self.read(tenant, user, &[period]).await?;
        states.into_iter().next().ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    async fn top_spenders(
        &self,
        tenant: &TenantId,
        period: Period,
        limit: u32,
    ) -> Result<Vec<Statement>, Error> {
        let rows = sqlx::query(
            "SELECT user FROM balances
             WHERE tenant = ? AND period = ? AND starts_at = ? AND spent > 0
             ORDER BY spent DESC, user LIMIT ?",
        )
        .bind(tenant.as_str())
        .bind(period.as_str())
        .bind(period.bounds(self.clock.now_ms()).0)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let mut statements = Vec::with_capacity(rows.len());
        for row in rows {
            let user = UserId::new(row.try_get::<String, _>(0)?)?;
            statements.extend(self.read(tenant, &user, &[period]).await?);
        }
        Ok(statements)
    }

    async fn record(&self, usages: &[Usage]) -> Result<(), Error> {
        usage::sqlite::record(&self.pool, usages, self.clock.now_ms()).await
    }

    async fn costs(
        &self,
        tenant: &TenantId,
        groups: &[Group],
        time: (i64, i64),
    ) -> Result<Vec<Cost>, Error> {
        usage::sqlite::list(&self.pool, tenant, groups, time).await
    }

    async fn audited(
        &self,
        tenant: &TenantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Audited>, Error> {
        usage::sqlite::audited(&self.pool, tenant, after, limit).await
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
}
