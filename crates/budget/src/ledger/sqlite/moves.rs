//! What moves need from the database file, and what they leave there.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};
use types::{NanoUsd, ReservationId, TenantId};

use crate::ledger::account::Account;
use crate::ledger::book::Book;
use crate::ledger::kept::{AccountKey, Kept, ReservationKey, State};
use crate::ledger::{
    Alert, Entry, Maintenance, Move, TRIED, again_after, columns, scopes_from, scopes_to,
};
use crate::{Error, Kind, Period, Rules, Scope};

/// How many holds whose time is over one look ends.
const SWEPT: usize = 500;

/// A transaction of the writer's. Its moves share a book: what several of them change is read and kept once.
pub(crate) struct Transaction<'a> {
    db: &'a Connection,
    rules: &'a Rules,
    now: i64,
    /// Holds what is not kept yet.
    book: Option<Book<'a>>,
    is_broken: bool,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(db: &'a Connection, rules: &'a Rules, now: i64) -> Self {
        Self { db, rules, now, book: None, is_broken: false }
    }

    /// Runs a move after those before; one that fails changes nothing.
    pub(crate) fn run(&mut self, one: &Move) -> Result<i64, Error> {
        let done = self.attempt(one);
        // What holds on though its time is over may be in the way.
        if let (Err(Error::Exceeded { .. }), Move::Reserve(_)) = (&done, one)
            && expire(self.db()?, self.rules, self.now)? > 0
        {
            return self.attempt(one);
        }
        done
    }

    fn attempt(&mut self, one: &Move) -> Result<i64, Error> {
        let book = self.book.get_or_insert_with(|| Book::new(self.rules, self.now));
        note(self.db, self.rules, book, one, self.now)?;
        book.run(one)
    }

    /// Returns the database as it is after the moves so far.
    pub(crate) fn db(&mut self) -> Result<&'a Connection, Error> {
        if let Some(book) = self.book.take()
            && let Err(fault) = keep(self.db, &book, self.now)
        {
            // A part of it may be there, and moves were answered by then.
            self.is_broken = true;
            return Err(fault);
        }
        Ok(self.db)
    }

    /// Returns the moment of all that is done in it.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// Keeps what there is yet to keep.
    ///
    /// # Errors
    /// If that fails, or failed before: it must not be committed then.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.db()?;
        match self.is_broken {
            true => Err(Error::Ledger("what was moved could not be kept".into())),
            false => Ok(()),
        }
    }
}

fn attempt(db: &Connection, rules: &Rules, one: &Move, now: i64) -> Result<i64, Error> {
    let mut book = Book::new(rules, now);
    note(db, rules, &mut book, one, now)?;
    let done = book.run(one)?;
    keep(db, &book, now)?;
    Ok(done)
}

/// Settles in turn what is there to settle; a reservation that ended otherwise stays as it is. Accounts
/// that many of them share are read and kept once.
pub(crate) fn settle(
    db: &Connection,
    rules: &Rules,
    settles: &[Move],
    now: i64,
) -> Result<(), Error> {
    let mut book = Book::new(rules, now);
    for one in settles {
        note(db, rules, &mut book, one, now)?;
        match book.run(one) {
            Ok(_) | Err(Error::Unknown(_) | Error::Conflict { .. }) => {}
            Err(fault) => return Err(fault),
        }
    }
    keep(db, &book, now)
}

/// Notes what a move needs.
fn note(
    db: &Connection,
    rules: &Rules,
    book: &mut Book<'_>,
    one: &Move,
    now: i64,
) -> Result<(), Error> {
    if let Some(key) = one.reservation()
        && let Some(kept) = find(db, &key)?
    {
        book.found(key, kept);
    }
    for key in book.needs(one) {
        if book.knows(&key) {
            continue;
        }
        let account = account(db, &key)?;
        let new = || Account::new(rules.limits(key.1.kind()), now);
        let account = account.unwrap_or_else(new);
        book.opened(key, account);
    }
    Ok(())
}

/// Ends holds whose time is over and returns how many.
pub(super) fn expire(db: &Connection, rules: &Rules, now: i64) -> Result<u64, Error> {
    let mut count = 0;
    loop {
        let mut over = db.prepare_cached(
            "SELECT tenant, id FROM reservations
             WHERE state = 'held' AND expires_at <= ? ORDER BY expires_at LIMIT ?",
        )?;
        let over = over.query_map(params![now, SWEPT as i64], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        let over: Vec<_> = over.collect::<Result<_, _>>()?;
        for (tenant, id) in &over {
            let (tenant, id) = (TenantId::new(tenant)?, ReservationId::new(id)?);
            attempt(db, rules, &Move::Expire { tenant, id }, now)?;
        }
        count += over.len() as u64;
        if over.len() < SWEPT {
            return Ok(count);
        }
    }
}

fn find(db: &Connection, (tenant, id): &ReservationKey) -> Result<Option<Kept>, Error> {
    let mut statement = db.prepare_cached(
        "SELECT scopes, amount, settled, state, made_at, expires_at, ended_at
         FROM reservations WHERE tenant = ? AND id = ?",
    )?;
    let mut rows = statement.query([tenant.as_str(), id.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(Kept {
        scopes: scopes_from(row.get_ref(0)?.as_str().unwrap_or_default())?,
        amount: row.get(1)?,
        settled: row.get(2)?,
        state: State::read(row.get_ref(3)?.as_str().unwrap_or_default())?,
        made_at: row.get(4)?,
        expires_at: row.get(5)?,
        ended_at: row.get(6)?,
    }))
}

/// Reads a scope's account, if it has one.
pub(super) fn account(
    db: &Connection,
    (tenant, scope): &AccountKey,
) -> Result<Option<Account>, Error> {
    let mut statement = db.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        " FROM accounts WHERE tenant = ? AND kind = ? AND name = ?"
    ))?;
    let key = [tenant.as_str(), scope.kind().as_str(), scope.name()];
    Ok(statement.query_row(key, |row| read(row, 0)).optional()?)
}

/// Reads an account whose columns begin at `at`.
fn read(row: &Row<'_>, at: usize) -> rusqlite::Result<Account> {
    let mut account = Account { moved_at: row.get(at)?, ..Account::default() };
    for period in 0..Period::ALL.len() {
        account.limits[period] = row.get(at + 1 + period)?;
        account.spent[period] = row.get(at + 5 + period)?;
        account.held[period] = row.get(at + 9 + period)?;
    }
    Ok(account)
}

/// Keeps what a book changed.
fn keep(db: &Connection, book: &Book<'_>, now: i64) -> Result<(), Error> {
    for ((tenant, scope), account) in book.moved() {
        let mut statement = db.prepare_cached(concat!(
            "INSERT OR REPLACE INTO accounts (tenant, kind, name, ",
            columns!(),
            ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        ))?;
        let (tenant, kind, name) = (tenant.as_str(), scope.kind().as_str(), scope.name());
        let mut values: Vec<&dyn ToSql> = vec![&tenant, &kind, &name, &account.moved_at];
        values.extend(account.limits.iter().map(|limit| limit as &dyn ToSql));
        values.extend(account.spent.iter().map(|spent| spent as &dyn ToSql));
        values.extend(account.held.iter().map(|held| held as &dyn ToSql));
        statement.execute(values.as_slice())?;
    }
    for (((tenant, scope), period, starts_at), (spent, held)) in &book.changes.past {
        let mut statement = db.prepare_cached(
            "INSERT INTO past (tenant, kind, name, period, starts_at, spent, held)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, max(?7, 0))
             ON CONFLICT DO UPDATE SET spent = spent + ?6, held = held + ?7",
        )?;
        let (tenant, kind, name) = (tenant.as_str(), scope.kind().as_str(), scope.name());
        statement.execute(params![tenant, kind, name, period.as_str(), starts_at, spent, held])?;
    }
    for ((tenant, id), kept) in book.made() {
        let mut statement = db.prepare_cached(
            "INSERT INTO reservations
               (tenant, id, scopes, amount, settled, state, made_at, expires_at, ended_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        statement.execute(params![
            tenant.as_str(),
            id.as_str(),
            scopes_to(&kept.scopes),
            kept.amount,
            kept.settled,
            kept.state.as_str(),
            kept.made_at,
            kept.expires_at,
            kept.ended_at,
        ])?;
    }
    for ((tenant, id), kept) in book.changed() {
        let mut statement = db.prepare_cached(
            "UPDATE reservations SET state = ?, settled = ?, expires_at = ?, ended_at = ?
             WHERE tenant = ? AND id = ?",
        )?;
        let state = kept.state.as_str();
        statement.execute(params![
            state,
            kept.settled,
            kept.expires_at,
            kept.ended_at,
            tenant.as_str(),
            id.as_str(),
        ])?;
    }
    for line in &book.changes.lines {
        let mut statement = db.prepare_cached(
            "INSERT INTO history
               (tenant, reservation, kind, spent, held, scopes, counts_at, at, reason, author)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        statement.execute(params![
            line.tenant.as_str(),
            line.reservation.as_str(),
            line.kind,
            line.spent,
            line.held,
            scopes_to(&line.scopes),
            line.counts_at,
            now,
            line.reason,
            line.author,
        ])?;
    }
    for alert in &book.changes.alerts {
        let mut statement = db.prepare_cached(
            "INSERT INTO alerts
               (tenant, kind, name, period, starts_at, percent, limited, spent, at, next_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9) ON CONFLICT DO NOTHING",
        )?;
        let (tenant, scope) = &alert.account;
        statement.execute(params![
            tenant.as_str(),
            scope.kind().as_str(),
            scope.name(),
            alert.period.as_str(),
            alert.starts_at,
            alert.percent,
            alert.limit,
            alert.spent,
            now,
        ])?;
    }
    Ok(())
}

/// Reads the accounts of a kind that `order` is about, in its order.
pub(super) fn list(
    db: &Connection,
    query: &str,
    values: &[Value],
) -> Result<Vec<(String, Account)>, Error> {
    let mut statement = db.prepare_cached(query)?;
    let rows = statement
        .query_map(rusqlite::params_from_iter(values), |row| Ok((row.get(0)?, read(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Reads the tenant's history behind number `after`.
pub(super) fn history(
    db: &Connection,
    tenant: &TenantId,
    after: i64,
    limit: u32,
) -> Result<Vec<Entry>, Error> {
    let mut statement = db.prepare_cached(
        "SELECT number, reservation, kind, spent, held, scopes, counts_at, at, reason, author
         FROM history WHERE tenant = ? AND number > ? ORDER BY number LIMIT ?",
    )?;
    let mut rows = statement.query(params![tenant.as_str(), after, limit])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(Entry {
            number: row.get(0)?,
            reservation: row.get(1)?,
            kind: row.get(2)?,
            spent: row.get(3)?,
            held: row.get(4)?,
            scopes: scopes_from(row.get_ref(5)?.as_str().unwrap_or_default())?,
            counts_at_ms: row.get(6)?,
            at_ms: row.get(7)?,
            reason: row.get(8)?,
            author: row.get(9)?,
        });
    }
    Ok(entries)
}

/// Reads every account of a tenant, and what its windows that are over hold.
pub(super) fn all(
    db: &Connection,
    tenant: &TenantId,
) -> Result<crate::ledger::verify::Kept, Error> {
    let mut kept = crate::ledger::verify::Kept::default();
    let scope = |row: &Row<'_>| -> Result<Scope, Error> {
        let kind: Kind = row.get_ref(0)?.as_str().unwrap_or_default().parse()?;
        Scope::new(kind, row.get::<_, String>(1)?)
    };
    let mut statement =
        db.prepare(concat!("SELECT kind, name, ", columns!(), " FROM accounts WHERE tenant = ?"))?;
    let mut rows = statement.query([tenant.as_str()])?;
    while let Some(row) = rows.next()? {
        kept.accounts.push((scope(row)?, read(row, 2)?));
    }
    let mut statement =
        db.prepare("SELECT kind, name, period, starts_at, spent, held FROM past WHERE tenant = ?")?;
    let mut rows = statement.query([tenant.as_str()])?;
    while let Some(row) = rows.next()? {
        let period: Period = row.get_ref(2)?.as_str().unwrap_or_default().parse()?;
        kept.past.push((scope(row)?, period, row.get(3)?, (row.get(4)?, row.get(5)?)));
    }
    Ok(kept)
}

/// Takes alerts that are to be told now; see [`crate::Ledger::alerts`].
pub(super) fn alerts(db: &Connection, limit: u32, now: i64) -> Result<Vec<Alert>, Error> {
    let mut due = Vec::new();
    let mut statement = db.prepare_cached(
        "SELECT tenant, kind, name, period, starts_at, percent, limited, spent, at, attempts FROM alerts
         WHERE told_at IS NULL AND next_at <= ? AND at > ? ORDER BY next_at LIMIT ?",
    )?;
    let mut rows = statement.query(params![now, now - TRIED, limit])?;
    while let Some(row) = rows.next()? {
        let kind: Kind = row.get_ref(1)?.as_str().unwrap_or_default().parse()?;
        due.push(Alert {
            tenant: TenantId::new(row.get::<_, String>(0)?)?,
            scope: Scope::new(kind, row.get::<_, String>(2)?)?,
            period: row.get_ref(3)?.as_str().unwrap_or_default().parse()?,
            starts_at_ms: row.get(4)?,
            percent: row.get(5)?,
            limit: NanoUsd::new(row.get(6)?),
            spent: NanoUsd::new(row.get(7)?),
            at_ms: row.get(8)?,
            attempts: row.get::<_, i64>(9)? + 1,
        });
    }
    for alert in &due {
        change(
            db,
            alert,
            "attempts = ?7, next_at = ?8",
            alert.attempts,
            now + again_after(alert.attempts - 1),
        )?;
    }
    Ok(due)
}

/// Notes that an alert was told.
pub(super) fn told(db: &Connection, alert: &Alert, now: i64) -> Result<(), Error> {
    change(db, alert, "attempts = ?7, told_at = ?8", alert.attempts, now)
}

fn change(db: &Connection, alert: &Alert, what: &str, attempts: i64, at: i64) -> Result<(), Error> {
    let mut statement = db.prepare_cached(&format!(
        "UPDATE alerts SET {what} WHERE tenant = ?1 AND kind = ?2 AND name = ?3 AND period = ?4
           AND starts_at = ?5 AND percent = ?6"
    ))?;
    let (kind, name) = (alert.scope.kind().as_str(), alert.scope.name());
    let (tenant, period) = (alert.tenant.as_str(), alert.period.as_str());
    let of = params![tenant, kind, name, period, alert.starts_at_ms, alert.percent, attempts, at];
    statement.execute(of)?;
    Ok(())
}

/// Says why gateways are to refuse work, or that they are not to.
pub(super) fn set_maintenance(db: &Connection, to: Option<&Maintenance>) -> Result<(), Error> {
    match to {
        None => db.execute("DELETE FROM maintenance", [])?,
        Some(to) => db.execute(
            "INSERT OR REPLACE INTO maintenance (one, message, retry_after, since) VALUES (1, ?, ?, ?)",
            params![to.message, to.retry_after_s, to.since_ms],
        )?,
    };
    Ok(())
}
