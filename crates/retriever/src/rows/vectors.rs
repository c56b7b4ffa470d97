//! Vectors by what they are of: a tenant's text is embedded once.

use std::array::TryFromSliceError;
use std::collections::HashMap;

use super::{Rows, TOGETHER, bytes, floats};
use crate::Error;
use crate::database::{Tx, places, transaction};
use crate::index::Scope;

/// So long a bought vector waits for its document.
const KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// A vector with the hash of what it is of.
pub(crate) type Hashed = ([u8; 32], Vec<f32>);

impl Rows {
    /// Returns the vectors that a tenant has already, by the hash of what was embedded. Two models never give one text
    /// one vector: the hash is of both.
    pub(crate) async fn vectors(
        &self,
        scope: &Scope,
        hashes: &[[u8; 32]],
    ) -> Result<HashMap<[u8; 32], Vec<f32>>, Error> {
        let mut found = HashMap::new();
        let mut db = self.database.read().await?;
        // Left to itself, SQLite would read all of the tenant's passages.
        let by = db.either(" INDEXED BY passages_embedded", "");
        for some in hashes.chunks(TOGETHER) {
            let mut asked = db.made(format!(
                "SELECT w.column1, COALESCE(
                   (SELECT vector FROM passages{by} WHERE tenant = $1 AND sha256 = w.column1 LIMIT 1),
                   (SELECT vector FROM vectors WHERE tenant = $1 AND sha256 = w.column1))
                 FROM (VALUES {}) AS w",
                places(1, some.len(), 1)
            ));
            asked = asked.bind(scope.tenant.as_str());
            for hash in some {
                asked = asked.bind(hash.as_slice());
            }
            for row in asked.all().await? {
                let (hash, vector): (&[u8], Option<&[u8]>) = (row.get(0)?, row.get(1)?);
                let hash: [u8; 32] = hash
                    .try_into()
                    .map_err(|fault: TryFromSliceError| Error::Broken(fault.into()))?;
                found.extend(vector.map(|vector| (hash, floats(vector))));
            }
        }
        Ok(found)
    }

    /// Keeps vectors that were paid for until their document is stored, in one transaction.
    pub(crate) async fn keep(
        &self,
        scope: &Scope,
        vectors: &[Hashed],
        now_ms: i64,
    ) -> Result<(), Error> {
        // Two that keep the same ones do so in one order.
        let mut vectors: Vec<_> = vectors.iter().collect();
        vectors.sort_unstable_by_key(|one| one.0);
        transaction!(self.database, |tx| {
            for some in vectors.chunks(TOGETHER) {
                let mut insert = tx.made(format!(
                    "INSERT INTO vectors (tenant, sha256, vector, at) VALUES {} ON CONFLICT DO NOTHING",
                    places(0, some.len(), 4)
                ));
                for (hash, vector) in some {
                    insert = insert.bind(scope.tenant.as_str()).bind(hash.as_slice());
                    insert = insert.bind(bytes(vector)).bind(now_ms);
                }
                insert.execute().await?;
            }
            Ok(())
        })
    }

    /// Removes the vectors whose document has not come in a week.
    pub(crate) async fn sweep(&self, now_ms: i64) -> Result<(), Error> {
        transaction!(self.database, |tx| {
            let old = tx.query("DELETE FROM vectors WHERE at < $1");
            old.bind(now_ms.saturating_sub(KEPT_MS)).execute().await
        })?;
        Ok(())
    }
}

/// Removes the vectors that waited for passages of these hashes.
pub(super) async fn stored(
    tx: &mut Tx,
    scope: &Scope,
    mut hashes: Vec<[u8; 32]>,
) -> Result<(), Error> {
    hashes.sort_unstable();
    for some in hashes.chunks(TOGETHER) {
        let mut remove = tx.made(format!(
            "DELETE FROM vectors WHERE tenant = $1 AND sha256 IN (VALUES {})",
            places(1, some.len(), 1)
        ));
        remove = remove.bind(scope.tenant.as_str());
        for hash in some {
            remove = remove.bind(hash.as_slice());
        }
        remove.execute().await?;
    }
    Ok(())
}
