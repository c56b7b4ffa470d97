//! What moves need from the database, and what they leave there.

use std::collections::BTreeSet;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{PgConnection, Row as _};
use types::{NanoUsd, ReservationId, TenantId};

use crate::ledger::account::Account;
use crate::ledger::book::{Book, Line};
use crate::ledger::kept::{AccountKey, Kept, ReservationKey, State};
use crate::ledger::{Alert, Entry, TRIED, again_after, columns, scopes_from, scopes_to, verify};
use crate::{Error, Kind, Period, Rules, Scope};

/// Accounts as they travel: `unnest` of an array for each column, from the first parameter on.
macro_rules! accounts {
    () => {
        concat!(
            "unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::BIGINT[], $5::BIGINT[], $6::BIGINT[], $7::BIGINT[],
               $8::BIGINT[], $9::BIGINT[], $10::BIGINT[], $11::BIGINT[], $12::BIGINT[], $13::BIGINT[], $14::BIGINT[],
               $15::BIGINT[], $16::BIGINT[]) AS row (tenant, kind, name, ",
            columns!(),
            ")"
        )
    };
}

type Query<'a> = sqlx::query::Query<'a, sqlx::Postgres, PgArguments>;

/// Finds and locks reservations, one after the other in the order in which they are named.
const FIND: &str = "SELECT found.* FROM unnest($1::TEXT[], $2::TEXT[]) AS wanted (of, this)
     CROSS JOIN LATERAL (
       SELECT tenant, id, scopes, amount, settled, state, made_at, expires_at, ended_at
       FROM reservations WHERE tenant = of AND id = this FOR UPDATE
     ) AS found";

/// Finds and locks accounts, likewise.
const LOAD: &str = concat!(
    "SELECT found.* FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[]) AS wanted (of, what, called)
     CROSS JOIN LATERAL (
       SELECT tenant, kind, name, ",
    columns!(),
    " FROM accounts WHERE tenant = of AND kind = what AND name = called FOR NO KEY UPDATE
     ) AS found"
);

/// Notes the reservations that are there, and locks them one after the other in the order of `keys`, so that nobody
/// stands in another's way crosswise.
pub(super) async fn find(
    db: &mut PgConnection,
    keys: BTreeSet<ReservationKey>,
    book: &mut Book<'_>,
) -> Result<(), super::queue::Failed> {
    if keys.is_empty() {
        return Ok(());
    }
    let of = |(tenant, id): &ReservationKey| (tenant.to_string(), id.to_string());
    let (tenants, ids): (Vec<_>, Vec<_>) = keys.iter().map(of).unzip();
    let rows = sqlx::query(FIND).bind(tenants).bind(ids).fetch_all(db).await?;
    for row in rows {
        let kept = Kept {
            scopes: scopes_from(row.try_get(2)?)?,
            amount: row.try_get(3)?,
            settled: row.try_get(4)?,
            state: State::read(row.try_get(5)?)?,
            made_at: row.try_get(6)?,
            expires_at: row.try_get(7)?,
            ended_at: row.try_get(8)?,
        };
        book.found((tenant(&row)?, reservation(&row)?), kept);
    }
    Ok(())
}

/// Makes accounts unless they are there.
pub(super) async fn open(
    db: &mut PgConnection,
    keys: &BTreeSet<AccountKey>,
    rules: &Rules,
    now: i64,
) -> Result<(), sqlx::Error> {
    let new = |key: &AccountKey| Account::new(rules.limits(key.1.kind()), now);
    let new: Vec<Account> = keys.iter().map(new).collect();
    let query = sqlx::query(concat!(
        "INSERT INTO accounts (tenant, kind, name, ",
        columns!(),
        ") SELECT * FROM ",
        accounts!(),
        " ON CONFLICT DO NOTHING"
    ));
    bind_accounts(query, keys.iter().zip(&new)).execute(db).await?;
    Ok(())
}

/// Notes accounts, and locks them, as [`find`] does reservations.
pub(super) async fn load(
    db: &mut PgConnection,
    keys: &BTreeSet<AccountKey>,
    book: &mut Book<'_>,
) -> Result<(), super::queue::Failed> {
    if keys.is_empty() {
        return Ok(());
    }
    let words =
        |key: &'_ AccountKey| (key.0.to_string(), key.1.kind().as_str(), key.1.name().to_owned());
    let mut keys: Vec<_> = keys.iter().map(words).collect();
    // By words, as every version has done.
    keys.sort_unstable();
    let tenants: Vec<&str> = keys.iter().map(|key| key.0.as_str()).collect();
    let kinds: Vec<&str> = keys.iter().map(|key| key.1).collect();
    let names: Vec<&str> = keys.iter().map(|key| key.2.as_str()).collect();
    let rows = sqlx::query(LOAD).bind(tenants).bind(kinds).bind(names).fetch_all(db).await?;
    for row in rows {
        let kind: Kind = row.try_get::<&str, _>(1)?.parse()?;
        let scope = Scope::new(kind, row.try_get::<String, _>(2)?)?;
        book.opened((tenant(&row)?, scope), read(&row, 3)?);
    }
    Ok(())
}

/// Reads whose a row is, which its first column says.
fn tenant(row: &PgRow) -> Result<TenantId, Error> {
    Ok(TenantId::new(row.try_get::<&str, _>(0)?)?)
}

/// Reads which reservation a row is, which its second column says.
fn reservation(row: &PgRow) -> Result<ReservationId, Error> {
    Ok(ReservationId::new(row.try_get::<&str, _>(1)?)?)
}

/// Reads an account whose columns begin at `at`.
pub(super) fn read(row: &PgRow, at: usize) -> Result<Account, sqlx::Error> {
    let mut account = Account { moved_at: row.try_get(at)?, ..Account::default() };
    for period in 0..Period::ALL.len() {
        account.limits[period] = row.try_get(at + 1 + period)?;
        account.spent[period] = row.try_get(at + 5 + period)?;
        account.held[period] = row.try_get(at + 9 + period)?;
    }
    Ok(account)
}

/// Binds accounts as they travel.
fn bind_accounts<'a>(
    query: Query<'a>,
    all: impl Iterator<Item = (&'a AccountKey, &'a Account)> + Clone,
) -> Query<'a> {
    let text = |of: fn(&'a AccountKey) -> &'a str| all.clone().map(|one| of(one.0)).collect();
    let (tenants, kinds, names): (Vec<_>, Vec<_>, Vec<_>) =
        (text(|key| key.0.as_str()), text(|key| key.1.kind().as_str()), text(|key| key.1.name()));
    let moved: Vec<i64> = all.clone().map(|one| one.1.moved_at).collect();
    let mut query = query.bind(tenants).bind(kinds).bind(names).bind(moved);
    for period in 0..Period::ALL.len() {
        query = query.bind(all.clone().map(|one| one.1.limits[period]).collect::<Vec<_>>());
    }
    for of in [|one: &'a Account| &one.spent, |one: &'a Account| &one.held] {
        for period in 0..Period::ALL.len() {
            query = query.bind(all.clone().map(|one| of(one.1)[period]).collect::<Vec<i64>>());
        }
    }
    query
}

/// Keeps what a book changed.
pub(super) async fn keep(
    db: &mut PgConnection,
    book: &Book<'_>,
    now: i64,
) -> Result<(), sqlx::Error> {
    let accounts: Vec<_> = book.moved().collect();
    let (changed, made): (Vec<_>, Vec<_>) = (book.changed().collect(), book.made().collect());
    if accounts.is_empty() && changed.is_empty() && made.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(concat!(
        "WITH moved AS (
           UPDATE accounts SET moved_at = row.moved_at,
             limit_daily = row.limit_daily, limit_weekly = row.limit_weekly,
             limit_monthly = row.limit_monthly, limit_total = row.limit_total,
             spent_daily = row.spent_daily, spent_weekly = row.spent_weekly,
             spent_monthly = row.spent_monthly, spent_total = row.spent_total,
             held_daily = row.held_daily, held_weekly = row.held_weekly,
             held_monthly = row.held_monthly, held_total = row.held_total
           FROM ",
        accounts!(),
        " WHERE accounts.tenant = row.tenant AND accounts.kind = row.kind AND accounts.name = row.name
         ), changed AS (
           UPDATE reservations SET state = row.state, settled = row.settled,
             expires_at = row.expires_at, ended_at = row.ended_at
           FROM unnest($17::TEXT[], $18::TEXT[], $19::TEXT[], $20::BIGINT[], $21::BIGINT[], $22::BIGINT[])
             AS row (tenant, id, state, settled, expires_at, ended_at)
           WHERE reservations.tenant = row.tenant AND reservations.id = row.id
         ), made AS (
           INSERT INTO reservations (tenant, id, state, settled, expires_at, ended_at, scopes, amount, made_at)
           SELECT * FROM unnest($23::TEXT[], $24::TEXT[], $25::TEXT[], $26::BIGINT[], $27::BIGINT[],
             $28::BIGINT[], $29::TEXT[], $30::BIGINT[], $31::BIGINT[])
         )
         INSERT INTO history
           (tenant, reservation, kind, scopes, reason, author, spent, held, counts_at, at)
         SELECT *, $32::BIGINT FROM unnest($33::TEXT[], $34::TEXT[], $35::TEXT[], $36::TEXT[], $37::TEXT[],
           $38::TEXT[], $39::BIGINT[], $40::BIGINT[], $41::BIGINT[])"
    ));
    let query = bind_accounts(query, accounts.iter().copied());
    let query = bind_reservations(bind_reservations(query, &changed), &made);
    let scopes: Vec<String> = made.iter().map(|one| scopes_to(&one.1.scopes)).collect();
    let amounts: Vec<i64> = made.iter().map(|one| one.1.amount).collect();
    let times: Vec<i64> = made.iter().map(|one| one.1.made_at).collect();
    let query = query.bind(scopes).bind(amounts).bind(times).bind(now);
    bind_lines(query, &book.changes.lines).execute(&mut *db).await?;
    past(db, book).await?;
    alerts(db, book, now).await
}

/// Binds what of reservations changes, as it travels.
fn bind_reservations<'a>(query: Query<'a>, all: &[(&'a ReservationKey, &'a Kept)]) -> Query<'a> {
    let texts = |of: fn(&(&'a ReservationKey, &'a Kept)) -> &'a str| all.iter().map(of).collect();
    let (tenants, ids, states): (Vec<_>, Vec<_>, Vec<_>) = (
        texts(|one| one.0.0.as_str()),
        texts(|one| one.0.1.as_str()),
        texts(|one| one.1.state.as_str()),
    );
    let settled: Vec<Option<i64>> = all.iter().map(|one| one.1.settled).collect();
    let expires: Vec<i64> = all.iter().map(|one| one.1.expires_at).collect();
    let ended: Vec<Option<i64>> = all.iter().map(|one| one.1.ended_at).collect();
    query.bind(tenants).bind(ids).bind(states).bind(settled).bind(expires).bind(ended)
}

/// Binds lines of the history as they travel.
fn bind_lines<'a>(query: Query<'a>, all: &'a [Line]) -> Query<'a> {
    let texts = |of: fn(&'a Line) -> &'a str| all.iter().map(of).collect::<Vec<_>>();
    let numbers = |of: fn(&Line) -> i64| all.iter().map(of).collect::<Vec<_>>();
    let scopes: Vec<String> = all.iter().map(|line| scopes_to(&line.scopes)).collect();
    query
        .bind(texts(|line| line.tenant.as_str()))
        .bind(texts(|line| line.reservation.as_str()))
        .bind(texts(|line| line.kind))
        .bind(scopes)
        .bind(texts(|line| &line.reason))
        .bind(texts(|line| &line.author))
        .bind(numbers(|line| line.spent))
        .bind(numbers(|line| line.held))
        .bind(numbers(|line| line.counts_at))
}

/// Keeps what moved in windows that are over.
async fn past(db: &mut PgConnection, book: &Book<'_>) -> Result<(), sqlx::Error> {
    for (((tenant, scope), period, starts_at), (spent, held)) in &book.changes.past {
        sqlx::query(
            "INSERT INTO past (tenant, kind, name, period, starts_at, spent, held)
             VALUES ($1, $2, $3, $4, $5, $6, greatest($7, 0))
             ON CONFLICT (tenant, kind, name, period, starts_at)
               DO UPDATE SET spent = past.spent + $6, held = past.held + $7",
        )
        .bind(tenant.as_str())
        .bind(scope.kind().as_str())
        .bind(scope.name())
        .bind(period.as_str())
        .bind(starts_at)
        .bind(spent)
        .bind(held)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// Keeps the shares of limits that somebody is to be told of.
async fn alerts(db: &mut PgConnection, book: &Book<'_>, now: i64) -> Result<(), sqlx::Error> {
    for alert in &book.changes.alerts {
        let (tenant, scope) = &alert.account;
        sqlx::query(
            "INSERT INTO alerts
               (tenant, kind, name, period, starts_at, percent, limited, spent, at, next_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) ON CONFLICT DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(scope.kind().as_str())
        .bind(scope.name())
        .bind(alert.period.as_str())
        .bind(alert.starts_at)
        .bind(i64::from(alert.percent))
        .bind(alert.limit)
        .bind(alert.spent)
        .bind(now)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// Returns holds whose time is over, the oldest first.
pub(super) async fn over(
    db: &mut PgConnection,
    now: i64,
    most: i64,
) -> Result<Vec<(TenantId, ReservationId)>, Error> {
    let rows = sqlx::query(
        "SELECT tenant, id FROM reservations WHERE state = 'held' AND expires_at <= $1
         ORDER BY expires_at LIMIT $2",
    )
    .bind(now)
    .bind(most)
    .fetch_all(db)
    .await?;
    let read = |row: &PgRow| {
        let tenant = TenantId::new(row.try_get::<String, _>(0)?)?;
        Ok((tenant, ReservationId::new(row.try_get::<String, _>(1)?)?))
    };
    rows.iter().map(read).collect()
}

/// Reads a scope's account, if it has one.
pub(super) async fn account(
    db: &mut PgConnection,
    tenant: &TenantId,
    scope: &Scope,
) -> Result<Option<Account>, Error> {
    let row = sqlx::query(concat!(
        "SELECT ",
        columns!(),
        " FROM accounts WHERE tenant = $1 AND kind = $2 AND name = $3"
    ))
    .bind(tenant.as_str())
    .bind(scope.kind().as_str())
    .bind(scope.name())
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| read(&row, 0)).transpose()?)
}

/// Reads the tenant's history behind number `after`.
pub(super) async fn history(
    db: &mut PgConnection,
    tenant: &TenantId,
    after: i64,
    limit: u32,
) -> Result<Vec<Entry>, Error> {
    let rows = sqlx::query(
        "SELECT number, reservation, kind, spent, held, scopes, counts_at, at, reason, author
         FROM history WHERE tenant = $1 AND number > $2 ORDER BY number LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    let read = |row: &PgRow| {
        Ok(Entry {
            number: row.try_get(0)?,
            reservation: row.try_get(1)?,
            kind: row.try_get(2)?,
            spent: row.try_get(3)?,
            held: row.try_get(4)?,
            scopes: scopes_from(row.try_get(5)?)?,
            counts_at_ms: row.try_get(6)?,
            at_ms: row.try_get(7)?,
            reason: row.try_get(8)?,
            author: row.try_get(9)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Reads every account of a tenant, and what its windows that are over hold.
pub(super) async fn all(db: &mut PgConnection, tenant: &TenantId) -> Result<verify::Kept, Error> {
    let mut kept = verify::Kept::default();
    let scope = |row: &PgRow| -> Result<Scope, Error> {
        Scope::new(row.try_get::<&str, _>(0)?.parse()?, row.try_get::<String, _>(1)?)
    };
    let accounts =
        sqlx::query(concat!("SELECT kind, name, ", columns!(), " FROM accounts WHERE tenant = $1"));
    for row in accounts.bind(tenant.as_str()).fetch_all(&mut *db).await? {
        kept.accounts.push((scope(&row)?, read(&row, 2)?));
    }
    let past = "SELECT kind, name, period, starts_at, spent, held FROM past WHERE tenant = $1";
    for row in sqlx::query(past).bind(tenant.as_str()).fetch_all(&mut *db).await? {
        let period: Period = row.try_get::<&str, _>(2)?.parse()?;
        let moved = (row.try_get(4)?, row.try_get(5)?);
        kept.past.push((scope(&row)?, period, row.try_get(3)?, moved));
    }
    Ok(kept)
}

/// Takes alerts that are to be told now; see [`crate::Ledger::alerts`].
pub(super) async fn due(db: &mut PgConnection, limit: u32, now: i64) -> Result<Vec<Alert>, Error> {
    let mut tx = sqlx::Connection::begin(db).await?;
    let rows = sqlx::query(
        "SELECT tenant, kind, name, period, starts_at, percent, limited, spent, at, attempts FROM alerts
         WHERE told_at IS NULL AND next_at <= $1 AND at > $2 ORDER BY next_at LIMIT $3
         FOR UPDATE SKIP LOCKED",
    )
    .bind(now)
    .bind(now - TRIED)
    .bind(i64::from(limit))
    .fetch_all(&mut *tx)
    .await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in rows {
        let alert = Alert {
            tenant: TenantId::new(row.try_get::<String, _>(0)?)?,
            scope: Scope::new(row.try_get::<&str, _>(1)?.parse()?, row.try_get::<String, _>(2)?)?,
            period: row.try_get::<&str, _>(3)?.parse()?,
            starts_at_ms: row.try_get(4)?,
            percent: u8::try_from(row.try_get::<i64, _>(5)?).unwrap_or(u8::MAX),
            limit: NanoUsd::new(row.try_get(6)?),
            spent: NanoUsd::new(row.try_get(7)?),
            at_ms: row.try_get(8)?,
            attempts: row.try_get::<i64, _>(9)? + 1,
        };
        let next_at = now + again_after(alert.attempts - 1);
        change(&mut tx, &alert, "next_at", next_at).await?;
        due.push(alert);
    }
    tx.commit().await?;
    Ok(due)
}

/// Notes that an alert was told.
pub(super) async fn told(db: &mut PgConnection, alert: &Alert, now: i64) -> Result<(), Error> {
    change(db, alert, "told_at", now).await
}

async fn change(
    db: &mut PgConnection,
    alert: &Alert,
    column: &'static str,
    at: i64,
) -> Result<(), Error> {
    let change = format!(
        "UPDATE alerts SET attempts = $7, {column} = $8 WHERE tenant = $1 AND kind = $2 AND name = $3
           AND period = $4 AND starts_at = $5 AND percent = $6"
    );
    sqlx::query(sqlx::AssertSqlSafe(change))
        .bind(alert.tenant.as_str())
        .bind(alert.scope.kind().as_str())
        .bind(alert.scope.name())
        .bind(alert.period.as_str())
        .bind(alert.starts_at_ms)
        .bind(i64::from(alert.percent))
        .bind(alert.attempts)
        .bind(at)
        .execute(db)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use types::SystemClock;

    use super::*;
    use crate::{Pool, Postgres};

    #[tokio::test]
    async fn rows_are_found_by_their_keys_in_the_order_in_which_they_are_named() {
        let server = testkit::Postgres::start().unwrap();
        let pool = Pool { connections: 1, acquire: Duration::from_secs(10) };
        let (rules, clock) = (Rules::default(), Arc::new(SystemClock));
        let ledger = Postgres::open(&server.url(), None, pool, rules, clock).await.unwrap();
        let pool = ledger.queue.pool();
        // A table that is known to be empty is read whole for choice.
        sqlx::raw_sql("ANALYZE accounts, reservations").execute(pool).await.unwrap();
        for (statement, columns) in [(FIND, 2), (LOAD, 3)] {
            let explain = format!("EXPLAIN {statement}");
            let mut explain = sqlx::query_scalar(sqlx::AssertSqlSafe(explain));
            for _ in 0..columns {
                explain = explain.bind(vec!["x"; 512]);
            }
            let plan: Vec<String> = explain.fetch_all(pool).await.unwrap();
            let is_scan = |step: &&String| step.contains("Scan") && !step.contains("Subquery");
            let scans: Vec<_> = plan.iter().filter(is_scan).collect();
            let [names, rows] = scans[..] else { panic!("{plan:?}") };
            assert!(names.contains("Function Scan on wanted"), "{plan:?}");
            assert!(rows.contains("Index Scan using"), "{plan:?}");
        }
    }
}
