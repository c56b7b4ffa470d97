//! The moves of money, each a statement in the writer's transaction.

use rusqlite::{Connection, OptionalExtension as _, params};
use types::{NanoUsd, ReservationId, TenantId, UserId};

use crate::ledger::rules::{Kept, counted, cover};
use crate::ledger::{Reservation, Statement};
use crate::{Error, Period};

/// Sets money aside at time `now`; see [`crate::Ledger::reserve`].
pub(super) fn reserve(db: &Connection, wanted: &Reservation, now: i64) -> Result<i64, Error> {
    // The second time holds whose time is over are gone, and so may be what was in the way.
    for _ in 0..2 {
        if let Some(expires_at) = hold(db, wanted, now)? {
            return Ok(expires_at);
        }
        if let Some(kept) = find(db, &wanted.tenant, &wanted.id)? {
            return match kept.lengthened(wanted, now) {
                Some(until) => lengthen(db, wanted, until),
                None => kept.repeated(wanted),
            };
        }
        for state in read(db, &wanted.tenant, &wanted.user, &Period::ALL, now)? {
            cover(wanted, &state, now)?;
        }
    }
    Err(Error::Busy)
}

/// Holds money if every limit covers it and the id is new, and returns when the hold ends.
///
/// Holds whose time is over still count here until they are swept.
fn hold(db: &Connection, wanted: &Reservation, now: i64) -> Result<Option<i64>, Error> {
    let expires_at = now.saturating_add(i64::from(wanted.ttl_ms));
    let mut statement = db.prepare_cached(
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
    )?;
    let made = statement.execute(params![
        wanted.tenant.as_str(),
        wanted.id.as_str(),
        wanted.user.as_str(),
        wanted.amount.nanos(),
        counted(&Period::ALL, now),
        now,
        expires_at,
    ])?;
    Ok((made == 1).then_some(expires_at))
}

/// Lets a hold that is found to last end later.
fn lengthen(db: &Connection, wanted: &Reservation, until: i64) -> Result<i64, Error> {
    let mut statement = db.prepare_cached(
        "UPDATE reservations SET expires_at = max(expires_at, ?)
         WHERE tenant = ? AND id = ? AND state = 'held'",
    )?;
    statement.execute(params![until, wanted.tenant.as_str(), wanted.id.as_str()])?;
    Ok(until)
}

fn find(db: &Connection, tenant: &TenantId, id: &ReservationId) -> Result<Option<Kept>, Error> {
    let mut statement = db.prepare_cached(
        "SELECT user, amount, settled, state, expires_at
         FROM reservations WHERE tenant = ? AND id = ?",
    )?;
    let kept = statement.query_row([tenant.as_str(), id.as_str()], |row| {
        Ok(Kept {
            user: row.get(0)?,
            amount: row.get(1)?,
            settled: row.get(2)?,
            state: row.get(3)?,
            expires_at: row.get(4)?,
        })
    });
    Ok(kept.optional()?)
}

/// Ends a reservation with what was spent; see [`crate::Ledger::settle`].
pub(super) fn settle(
    db: &Connection,
    tenant: &TenantId,
    id: &ReservationId,
    amount: NanoUsd,
    now: i64,
) -> Result<(), Error> {
    if settle_open(db, tenant.as_str(), id.as_str(), amount.nanos(), now)? {
        return Ok(());
    }
    let kept = find(db, tenant, id)?.ok_or_else(|| Error::Unknown(id.clone()))?;
    kept.settled_before(id, amount)
}

/// Settles a reservation that is held or expired and tells whether it was.
pub(crate) fn settle_open(
    db: &Connection,
    tenant: &str,
    id: &str,
    amount: i64,
    now: i64,
) -> Result<bool, Error> {
    let mut statement = db.prepare_cached(
        "UPDATE reservations SET state = 'settled', settled = ?, ended_at = ?
         WHERE tenant = ? AND id = ? AND state IN ('held', 'expired')",
    )?;
    Ok(statement.execute(params![amount, now, tenant, id])? == 1)
}

/// Ends a reservation with nothing spent; see [`crate::Ledger::release`].
pub(super) fn release(
    db: &Connection,
    tenant: &TenantId,
    user: &UserId,
    id: &ReservationId,
    now: i64,
) -> Result<(), Error> {
    let mut mark = db.prepare_cached(
        "INSERT INTO reservations
           (tenant, id, user, amount, state, counted, made_at, expires_at, ended_at)
         VALUES (?1, ?2, ?3, 0, 'released', '[]', ?4, ?4, ?4) ON CONFLICT DO NOTHING",
    )?;
    if mark.execute(params![tenant.as_str(), id.as_str(), user.as_str(), now])? == 1 {
        return Ok(());
    }
    let mut end = db.prepare_cached(
        "UPDATE reservations SET state = 'released', ended_at = ?
         WHERE tenant = ? AND id = ? AND state = 'held'",
    )?;
    if end.execute(params![now, tenant.as_str(), id.as_str()])? == 1 {
        return Ok(());
    }
    let kept = find(db, tenant, id)?.ok_or_else(|| Error::Unknown(id.clone()))?;
    kept.released_before(id)
}

/// Ends every hold whose time is over and returns how many.
pub(super) fn expire(db: &Connection, now: i64) -> Result<u64, Error> {
    let mut statement = db.prepare_cached(
        "UPDATE reservations SET state = 'expired', ended_at = ?1
         WHERE state = 'held' AND expires_at <= ?1",
    )?;
    Ok(statement.execute([now])? as u64)
}

/// Sets a user's limit for a period.
pub(super) fn set_limit(
    db: &Connection,
    tenant: &TenantId,
    user: &UserId,
    period: Period,
    limit: NanoUsd,
) -> Result<(), Error> {
    let mut statement = db.prepare_cached(
        "INSERT INTO limits (tenant, user, period, amount) VALUES (?, ?, ?, ?)
         ON CONFLICT (tenant, user, period) DO UPDATE SET amount = excluded.amount",
    )?;
    statement.execute(params![tenant.as_str(), user.as_str(), period.as_str(), limit.nanos()])?;
    Ok(())
}

/// Reads a user's state in the periods that hold `now`, without holds whose time is over.
pub(super) fn read(
    db: &Connection,
    tenant: &TenantId,
    user: &UserId,
    periods: &[Period],
    now: i64,
) -> Result<Vec<Statement>, Error> {
    expire(db, now)?;
    let mut statement = db.prepare_cached(
        "SELECT limits.amount, coalesce(spent, 0), coalesce(held, 0)
         FROM json_each(?3) AS counted
         LEFT JOIN limits ON limits.tenant = ?1 AND limits.user = ?2
           AND limits.period = counted.value ->> 0
         LEFT JOIN balances ON balances.tenant = ?1 AND balances.user = ?2
           AND balances.period = counted.value ->> 0
           AND balances.starts_at = counted.value ->> 1
         ORDER BY counted.key",
    )?;
    let rows = statement
        .query_map(params![tenant.as_str(), user.as_str(), counted(periods, now)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    let state = |(period, row): (&Period, rusqlite::Result<_>)| -> Result<Statement, Error> {
        let (limit, spent, held): (Option<i64>, i64, i64) = row?;
        Ok(Statement {
            user: user.clone(),
            period: *period,
            limit: limit.map(NanoUsd::new),
            spent: NanoUsd::new(spent),
            held: NanoUsd::new(held),
        })
    };
    periods.iter().zip(rows).map(state).collect()
}

/// Reads who spent most in the period that holds `now`.
pub(super) fn top_spenders(
    db: &Connection,
    tenant: &TenantId,
    period: Period,
    limit: u32,
    now: i64,
) -> Result<Vec<Statement>, Error> {
    expire(db, now)?;
    let mut statement = db.prepare_cached(
        "SELECT balances.user, limits.amount, spent, held FROM balances
         LEFT JOIN limits ON limits.tenant = balances.tenant AND limits.user = balances.user
           AND limits.period = balances.period
         WHERE balances.tenant = ? AND balances.period = ? AND starts_at = ? AND spent > 0
         ORDER BY spent DESC, balances.user LIMIT ?",
    )?;
    let of = params![tenant.as_str(), period.as_str(), period.bounds(now).0, limit];
    let mut rows = statement.query(of)?;
    let mut statements = Vec::new();
    while let Some(row) = rows.next()? {
        statements.push(Statement {
            user: UserId::new(row.get::<_, String>(0)?)?,
            period,
            limit: row.get::<_, Option<i64>>(1)?.map(NanoUsd::new),
            spent: NanoUsd::new(row.get(2)?),
            held: NanoUsd::new(row.get(3)?),
        });
    }
    Ok(statements)
}
