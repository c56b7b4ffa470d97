//! Keys in SQLite, in the ledger's file.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};
use types::{KeyId, TenantId};

use super::{Found, Hash, Key, Keys, Row, Secret, Terms, columns};
use crate::{Error, Sqlite};

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        id: row.get(0)?,
        tenant: row.get(1)?,
        terms: row.get(2)?,
        begins: row.get(3)?,
        created_at: row.get(4)?,
        rotated_at: row.get(5)?,
        old_until: row.get(6)?,
        revoked_at: row.get(7)?,
    })
}

#[async_trait]
impl Keys for Sqlite {
    async fn add(&self, key: &Key, hash: &Hash) -> Result<(), Error> {
        let (key, hash) = (key.clone(), *hash);
        let add = move |db: &Connection, _| {
            let mut add = db.prepare_cached(
                "INSERT INTO keys (id, tenant, terms, begins, hash, created_at)
                 VALUES (?, ?, ?, ?, ?, ?)",
            )?;
            add.execute(params![
                key.id.as_str(),
                key.tenant.as_str(),
                key.terms.to_text(),
                key.begins,
                hash,
                key.created_at
            ])?;
            Ok(())
        };
        self.write(add).await
    }

    async fn list(&self, tenant: &TenantId, after: &str, limit: u32) -> Result<Vec<Key>, Error> {
        let (tenant, after) = (tenant.clone(), after.to_owned());
        let list = move |db: &Connection, _| {
            let mut list = db.prepare_cached(concat!(
                "SELECT ",
                columns!(),
                " FROM keys WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?"
            ))?;
            let rows = list.query_map(params![tenant.as_str(), after, limit], row)?;
            rows.map(|row| row?.read()).collect()
        };
        self.write(list).await
    }

    async fn read(&self, tenant: &TenantId, id: &KeyId) -> Result<Key, Error> {
        let (tenant, id) = (tenant.clone(), id.clone());
        let read = move |db: &Connection, _| {
            let mut read = db.prepare_cached(concat!(
                "SELECT ",
                columns!(),
                " FROM keys WHERE tenant = ? AND id = ?"
            ))?;
            let found = read.query_row(params![tenant.as_str(), id.as_str()], row).optional()?;
            found.ok_or(Error::NoKey(id))?.read()
        };
        self.write(read).await
    }

    async fn change(
        &self,
        tenant: &TenantId,
        id: &KeyId,
        before: &Terms,
        terms: &Terms,
    ) -> Result<bool, Error> {
        let (tenant, id) = (tenant.clone(), id.clone());
        let (before, terms) = (before.to_text(), terms.to_text());
        let change = move |db: &Connection, _| {
            let mut change = db.prepare_cached(
                "UPDATE keys SET terms = ?
                 WHERE tenant = ? AND id = ? AND terms = ? AND revoked_at IS NULL",
            )?;
            Ok(change.execute(params![terms, tenant.as_str(), id.as_str(), before])? > 0)
        };
        self.write(change).await
    }

    async fn rotate(
        &self,
        tenant: &TenantId,
        id: &KeyId,
        secret: &Secret,
        now: i64,
        old_until: i64,
    ) -> Result<bool, Error> {
        let (tenant, id) = (tenant.clone(), id.clone());
        let (hash, begins) = (secret.hash(), secret.begins().to_owned());
        let rotate = move |db: &Connection, _| {
            let mut rotate = db.prepare_cached(
                "UPDATE keys SET old_hash = hash, hash = ?, begins = ?, rotated_at = ?, old_until = ?
                 WHERE tenant = ? AND id = ? AND revoked_at IS NULL",
            )?;
            let (tenant, id) = (tenant.as_str(), id.as_str());
            Ok(rotate.execute(params![hash, begins, now, old_until, tenant, id])? > 0)
        };
        self.write(rotate).await
    }

    async fn revoke(&self, tenant: &TenantId, id: &KeyId, now: i64) -> Result<bool, Error> {
        let (tenant, id) = (tenant.clone(), id.clone());
        let revoke = move |db: &Connection, _| {
            let mut revoke = db.prepare_cached(
                "UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE tenant = ? AND id = ?",
            )?;
            Ok(revoke.execute(params![now, tenant.as_str(), id.as_str()])? > 0)
        };
        self.write(revoke).await
    }

    async fn look_up(&self, hash: &Hash) -> Result<Option<Found>, Error> {
        let hash = *hash;
        let look = move |db: &Connection, _| {
            let mut look = db.prepare_cached(concat!(
                "SELECT ",
                columns!(),
                ", hash <> ?1 FROM keys WHERE hash = ?1 OR old_hash = ?1"
            ))?;
            let read = |found: &rusqlite::Row<'_>| Ok((row(found)?, found.get(8)?));
            let found = look.query_row([hash], read).optional()?;
            let found = found.map(|(row, old)| Ok(Found { key: row.read()?, old }));
            found.transpose()
        };
        self.write(look).await
    }
}
