//! Keys in PostgreSQL. A replica that reports are read from may be late: keys are never read there.

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use types::{KeyId, TenantId};

use super::{Found, Hash, Key, Keys, Row, Secret, Terms, columns};
use crate::{Error, Postgres};

fn read(row: &PgRow) -> Result<Key, Error> {
    let row = Row {
        id: row.try_get(0)?,
        tenant: row.try_get(1)?,
        terms: row.try_get(2)?,
        begins: row.try_get(3)?,
        created_at: row.try_get(4)?,
        rotated_at: row.try_get(5)?,
        old_until: row.try_get(6)?,
        revoked_at: row.try_get(7)?,
    };
    row.read()
}

#[async_trait]
impl Keys for Postgres {
    async fn add(&self, key: &Key, hash: &Hash) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO keys (id, tenant, terms, begins, hash, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(key.id.as_str())
        .bind(key.tenant.as_str())
        .bind(key.terms.to_text())
        .bind(&key.begins)
        .bind(&hash[..])
        .bind(key.created_at)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    async fn list(&self, tenant: &TenantId, after: &str, limit: u32) -> Result<Vec<Key>, Error> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM keys WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3"
        ))
        .bind(tenant.as_str())
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(read).collect()
    }

    async fn read(&self, tenant: &TenantId, id: &KeyId) -> Result<Key, Error> {
        let row =
            sqlx::query(concat!("SELECT ", columns!(), " FROM keys WHERE tenant = $1 AND id = $2"))
                .bind(tenant.as_str())
                .bind(id.as_str())
                .fetch_optional(self.pool())
                .await?;
        read(&row.ok_or_else(|| Error::NoKey(id.clone()))?)
    }

    async fn change(
        &self,
        tenant: &TenantId,
        id: &KeyId,
        before: &Terms,
        terms: &Terms,
    ) -> Result<bool, Error> {
        let changed = sqlx::query(
            "UPDATE keys SET terms = $1
             WHERE tenant = $2 AND id = $3 AND terms = $4 AND revoked_at IS NULL",
        )
        .bind(terms.to_text())
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(before.to_text())
        .execute(self.pool())
        .await?;
        Ok(changed.rows_affected() > 0)
    }

    async fn rotate(
        &self,
        tenant: &TenantId,
        id: &KeyId,
        secret: &Secret,
        now: i64,
        old_until: i64,
    ) -> Result<bool, Error> {
        let rotated = sqlx::query(
            "UPDATE keys SET old_hash = hash, hash = $1, begins = $2, rotated_at = $3, old_until = $4
             WHERE tenant = $5 AND id = $6 AND revoked_at IS NULL",
        )
        .bind(&secret.hash()[..])
        .bind(secret.begins())
        .bind(now)
        .bind(old_until)
        .bind(tenant.as_str())
        .bind(id.as_str())
        .execute(self.pool())
        .await?;
        Ok(rotated.rows_affected() > 0)
    }

    async fn revoke(&self, tenant: &TenantId, id: &KeyId, now: i64) -> Result<bool, Error> {
        let revoked = sqlx::query(
            "UPDATE keys SET revoked_at = coalesce(revoked_at, $1) WHERE tenant = $2 AND id = $3",
        )
        .bind(now)
        .bind(tenant.as_str())
        .bind(id.as_str())
        .execute(self.pool())
        .await?;
        Ok(revoked.rows_affected() > 0)
    }

    async fn look_up(&self, hash: &Hash) -> Result<Option<Found>, Error> {
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            ", hash <> $1 FROM keys WHERE hash = $1 OR old_hash = $1"
        ))
        .bind(&hash[..])
        .fetch_optional(self.pool())
        .await?;
        let found = row.map(|row| Ok(Found { key: read(&row)?, old: row.try_get(8)? }));
        found.transpose()
    }
}
