//! What a ledger decides once it has read. Pure, so that every store decides the same.
//!
//! A store finds what [`Move`]s need, lets a [`Book`] run them in turn, and keeps what the book changed,
//! all in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use types::{NanoUsd, ReservationId, TenantId};

use super::account::{Account, Past};
use super::kept::{AccountKey, Kept, ReservationKey, State, conflict};
use super::{Correction, Move, Reservation, Rules};
use crate::{Error, Period, Scope};

/// One line of the history: it is only ever added, and what is spent and held is the sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) tenant: TenantId,
    pub(crate) reservation: ReservationId,
    /// hold, settle, release, expire or correct.
    pub(crate) kind: &'static str,
    /// By how much what is spent changes.
    pub(crate) spent: i64,
    /// By how much what is held changes.
    pub(crate) held: i64,
    pub(crate) scopes: Vec<Scope>,
    /// The moment in whose periods it counts.
    pub(crate) counts_at: i64,
    pub(crate) reason: String,
    pub(crate) author: String,
}

/// A limit of which so much is spent that somebody is to be told, once a scope, period and share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alert {
    pub(crate) account: AccountKey,
    pub(crate) period: Period,
    pub(crate) starts_at: i64,
    pub(crate) percent: u8,
    pub(crate) limit: i64,
    pub(crate) spent: i64,
}

/// What moves need, as it was found, and what they changed.
#[derive(Debug)]
pub(crate) struct Book<'a> {
    now: i64,
    rules: &'a Rules,
    reservations: BTreeMap<ReservationKey, Kept>,
    accounts: BTreeMap<AccountKey, Account>,
    pub(crate) changes: Changes,
}

/// What is to be kept.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    made: BTreeSet<ReservationKey>,
    changed: BTreeSet<ReservationKey>,
    moved: BTreeSet<AccountKey>,
    pub(crate) past: BTreeMap<(AccountKey, Period, i64), (i64, i64)>,
    pub(crate) lines: Vec<Line>,
    pub(crate) alerts: BTreeSet<Alert>,
}

impl<'a> Book<'a> {
    pub(crate) fn new(rules: &'a Rules, now: i64) -> Self {
        let (reservations, accounts) = (BTreeMap::new(), BTreeMap::new());
        Self { now, rules, reservations, accounts, changes: Changes::default() }
    }

    /// Notes a reservation that the store has.
    pub(crate) fn found(&mut self, key: ReservationKey, kept: Kept) {
        self.reservations.entry(key).or_insert(kept);
    }

    /// Notes an account that the store has.
    pub(crate) fn opened(&mut self, key: AccountKey, account: Account) {
        self.accounts.entry(key).or_insert(account);
    }

    pub(crate) fn knows(&self, key: &AccountKey) -> bool {
        self.accounts.contains_key(key)
    }

    /// Returns the accounts that a move needs, once its reservation is noted.
    pub(crate) fn needs(&self, one: &Move) -> Vec<AccountKey> {
        let known = one.reservation().and_then(|key| Some((self.reservations.get(&key)?, key.0)));
        match known {
            Some((kept, tenant)) => {
                kept.scopes.iter().map(|scope| (tenant.clone(), scope.clone())).collect()
            }
            None => one.accounts(),
        }
    }

    /// Returns the reservations that are new.
    pub(crate) fn made(&self) -> impl Iterator<Item = (&ReservationKey, &Kept)> {
        self.changes.made.iter().filter_map(|key| self.reservations.get_key_value(key))
    }

    /// Returns the reservations that were found and have changed.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&ReservationKey, &Kept)> {
        self.changes.changed.iter().filter_map(|key| self.reservations.get_key_value(key))
    }

    /// Returns the accounts that have changed.
    pub(crate) fn moved(&self) -> impl Iterator<Item = (&AccountKey, &Account)> {
        self.changes.moved.iter().filter_map(|key| self.accounts.get_key_value(key))
    }

    /// Runs a move, whose reservation and accounts are noted, after those before; returns when the
    /// hold ends if it reserves. One that fails changes nothing.
    ///
    /// # Errors
    /// As the ledger's methods.
    pub(crate) fn run(&mut self, one: &Move) -> Result<i64, Error> {
        match one {
            Move::Reserve(wanted) => return self.reserve(wanted),
            Move::Settle { tenant, id, amount } => self.settle(tenant, id, *amount)?,
            Move::Release { tenant, id } => self.release(tenant, id)?,
            Move::Expire { tenant, id } => self.expire(tenant, id),
            Move::Correct(correction) => self.correct(correction)?,
            Move::Limit { tenant, scope, period, limit } => {
                self.limit(tenant, scope, *period, *limit)?;
            }
        }
        Ok(0)
    }

    fn reserve(&mut self, wanted: &Reservation) -> Result<i64, Error> {
        let key = (wanted.tenant.clone(), wanted.id.clone());
        if let Some(kept) = self.reservations.get_mut(&key) {
            let until = kept.repeated(wanted, self.now)?;
            if until > kept.expires_at {
                kept.expires_at = until;
                self.note(key);
            }
            return Ok(until);
        }
        let accounts = self.accounts_of(&wanted.tenant, &wanted.scopes);
        let now = self.advance(&accounts)?;
        for account in &accounts {
            let state = self.account(account)?;
            let Some(at) = state.refuses(wanted.amount, self.rules.grace) else { continue };
            return Err(Error::Exceeded {
                scope: account.1.clone(),
                period: Period::ALL[at],
                limit: NanoUsd::new(state.limits[at].unwrap_or(i64::MAX)),
                spent: NanoUsd::new(state.spent[at]),
                held: NanoUsd::new(state.held[at]),
                needed: wanted.amount,
                resets_at_ms: Period::ALL[at].bounds(now).1,
            });
        }
        let expires_at = now.saturating_add(i64::from(wanted.ttl_ms));
        let kept = Kept {
            scopes: wanted.scopes.clone(),
            amount: wanted.amount.nanos(),
            settled: None,
            state: State::Held,
            made_at: now,
            expires_at,
            ended_at: None,
        };
        self.line(&key, &kept, "hold", (0, kept.amount), ("", ""))?;
        self.make(key, kept);
        Ok(expires_at)
    }

    fn settle(
        &mut self,
        tenant: &TenantId,
        id: &ReservationId,
        amount: NanoUsd,
    ) -> Result<(), Error> {
        let key = (tenant.clone(), id.clone());
        let unknown = || Error::Unknown(id.clone());
        let kept = self.reservations.get(&key).cloned().ok_or_else(unknown)?;
        let held = match kept.state {
            State::Held => kept.amount,
            State::Expired => 0,
            State::Settled if kept.settled == Some(amount.nanos()) => return Ok(()),
            State::Settled => return Err(conflict(id, "settled with another amount")),
            State::Released => return Err(conflict(id, "released")),
        };
        self.line(&key, &kept, "settle", (amount.nanos(), -held), ("", ""))?;
        self.end(key, State::Settled, Some(amount.nanos()));
        Ok(())
    }

    fn release(&mut self, tenant: &TenantId, id: &ReservationId) -> Result<(), Error> {
        let key = (tenant.clone(), id.clone());
        let Some(kept) = self.reservations.get(&key).cloned() else {
            // Marked, so that a reserve that comes late holds nothing.
            let kept = Kept {
                scopes: Vec::new(),
                amount: 0,
                settled: None,
                state: State::Released,
                made_at: self.now,
                expires_at: self.now,
                ended_at: Some(self.now),
            };
            self.make(key, kept);
            return Ok(());
        };
        match kept.state {
            State::Settled => Err(conflict(id, "settled")),
            State::Released | State::Expired => Ok(()),
            State::Held if kept.expires_at <= self.now => {
                self.expire(tenant, id);
                Ok(())
            }
            State::Held => {
                self.line(&key, &kept, "release", (0, -kept.amount), ("", ""))?;
                self.end(key, State::Released, None);
                Ok(())
            }
        }
    }

    /// Ends a hold whose time is over, if it is one.
    fn expire(&mut self, tenant: &TenantId, id: &ReservationId) {
        let key = (tenant.clone(), id.clone());
        let over = |kept: &&Kept| kept.state == State::Held && kept.expires_at <= self.now;
        let Some(kept) = self.reservations.get(&key).filter(over).cloned() else { return };
        if self.line(&key, &kept, "expire", (0, -kept.amount), ("", "")).is_ok() {
            self.end(key, State::Expired, None);
        }
    }

    fn correct(&mut self, correction: &Correction) -> Result<(), Error> {
        let Correction { tenant, id, scopes, amount, reason, author } = correction;
        let key = (tenant.clone(), id.clone());
        if let Some(kept) = self.reservations.get(&key) {
            let same = kept.state == State::Settled
                && kept.settled == Some(amount.nanos())
                && kept.scopes == *scopes;
            return if same { Ok(()) } else { Err(conflict(id, "used for something else")) };
        }
        let accounts = self.accounts_of(tenant, scopes);
        let now = self.advance(&accounts)?;
        for account in &accounts {
            let spent = self.account(account)?.spent;
            if let Some(at) =
                (0..spent.len()).find(|at| spent[*at].saturating_add(amount.nanos()) < 0)
            {
                let (scope, period) = (&account.1, Period::ALL[at].as_str());
                let spent = NanoUsd::new(spent[at]);
                return Err(Error::Invalid(format!("{scope} has spent {spent} USD {period}")));
            }
        }
        let kept = Kept {
            scopes: scopes.clone(),
            amount: 0,
            settled: Some(amount.nanos()),
            state: State::Settled,
            made_at: now,
            expires_at: now,
            ended_at: Some(now),
        };
        self.line(&key, &kept, "correct", (amount.nanos(), 0), (reason, author))?;
        self.make(key, kept);
        Ok(())
    }

    fn limit(
        &mut self,
        tenant: &TenantId,
        scope: &Scope,
        period: Period,
        limit: Option<NanoUsd>,
    ) -> Result<(), Error> {
        let accounts = self.accounts_of(tenant, std::slice::from_ref(scope));
        self.advance(&accounts)?;
        for key in accounts {
            let account = self.accounts.get_mut(&key).ok_or_else(missing)?;
            account.limits[period as usize] = limit.map(NanoUsd::nanos);
            self.changes.moved.insert(key.clone());
            self.alert(&key, None);
        }
        Ok(())
    }

    /// Writes a line, and moves its money in every account that it counts in.
    fn line(
        &mut self,
        (tenant, reservation): &ReservationKey,
        kept: &Kept,
        kind: &'static str,
        (spent, held): (i64, i64),
        (reason, author): (&str, &str),
    ) -> Result<(), Error> {
        let accounts: Vec<AccountKey> =
            kept.scopes.iter().map(|scope| (tenant.clone(), scope.clone())).collect();
        if let Some(unknown) = accounts.iter().find(|key| !self.knows(key)) {
            return Err(Error::Ledger(format!("{} has no account", unknown.1).into()));
        }
        for key in accounts {
            let Some(account) = self.accounts.get_mut(&key) else { continue };
            let before = account.clone();
            let over = account.add(kept.made_at, spent, held);
            self.changes.moved.insert(key.clone());
            self.leave(&key, over);
            self.alert(&key, Some(&before));
        }
        self.changes.lines.push(Line {
            tenant: tenant.clone(),
            reservation: reservation.clone(),
            kind,
            spent,
            held,
            scopes: kept.scopes.clone(),
            counts_at: kept.made_at,
            reason: reason.to_owned(),
            author: author.to_owned(),
        });
        Ok(())
    }

    /// Brings accounts to this moment, or to the latest that one of them has seen: replicas' clocks
    /// differ, and a move counts in the same periods everywhere.
    fn advance(&mut self, accounts: &[AccountKey]) -> Result<i64, Error> {
        let seen = accounts.iter().filter_map(|key| Some(self.accounts.get(key)?.moved_at)).max();
        let now = seen.unwrap_or(self.now).max(self.now);
        for key in accounts {
            let account = self.accounts.get_mut(key).ok_or_else(missing)?;
            let over = account.advance(now);
            if !over.is_empty() {
                self.changes.moved.insert(key.clone());
                self.leave(key, over);
            }
        }
        Ok(now)
    }

    /// Notes what moves in windows that are over.
    fn leave(&mut self, key: &AccountKey, over: Vec<Past>) {
        for Past { period, starts_at, spent, held } in over {
            if (spent, held) != (0, 0) {
                let past = self.changes.past.entry((key.clone(), period, starts_at)).or_default();
                past.0 = past.0.saturating_add(spent);
                past.1 = past.1.saturating_add(held);
            }
        }
    }

    /// Notes the shares of a limit that are spent now, and were not `before`.
    fn alert(&mut self, key: &AccountKey, before: Option<&Account>) {
        let Some(account) = self.accounts.get(key) else { return };
        for (at, period) in Period::ALL.into_iter().enumerate() {
            let (Some(limit), Some(now)) = (account.limits[at], account.percent(at)) else {
                continue;
            };
            let then = before.and_then(|before| before.percent(at)).unwrap_or(-1);
            for percent in self.rules.alerts.iter().copied() {
                if (then + 1..=now).contains(&i128::from(percent)) {
                    self.changes.alerts.insert(Alert {
                        account: key.clone(),
                        period,
                        starts_at: period.bounds(account.moved_at).0,
                        percent,
                        limit,
                        spent: account.spent[at],
                    });
                }
            }
        }
    }

    fn account(&self, key: &AccountKey) -> Result<&Account, Error> {
        self.accounts.get(key).ok_or_else(missing)
    }

    fn accounts_of(&self, tenant: &TenantId, scopes: &[Scope]) -> Vec<AccountKey> {
        scopes.iter().map(|scope| (tenant.clone(), scope.clone())).collect()
    }

    fn make(&mut self, key: ReservationKey, kept: Kept) {
        self.reservations.insert(key.clone(), kept);
        self.changes.made.insert(key);
    }

    fn end(&mut self, key: ReservationKey, state: State, settled: Option<i64>) {
        let now = self.now;
        if let Some(kept) = self.reservations.get_mut(&key) {
            (kept.state, kept.settled, kept.ended_at) = (state, settled, Some(now));
            self.note(key);
        }
    }

    fn note(&mut self, key: ReservationKey) {
        if !self.changes.made.contains(&key) {
            self.changes.changed.insert(key);
        }
    }
}

/// Says that a store did not find what it was asked for.
fn missing() -> Error {
    Error::Ledger("an account was not loaded".into())
}
