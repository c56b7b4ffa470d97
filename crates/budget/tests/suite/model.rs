//! Every ledger does what a simple model does, whatever it is asked for, and whenever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use budget::{Error, Kind, Ledger, Period, Postgres, Reservation, Rules, Scope, Sqlite};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use types::{Clock, NanoUsd, ReservationId, TenantId};

use super::{Hands, NOON, POOL};

const DAY: i64 = 86_400_000;

/// Moments behind which something begins: a leap day and a month, a Monday and a month, a year.
const EVES: [&str; 4] = ["2028-02-28", "2028-02-29", "2027-01-31", "2026-12-31"];

/// What is asked of a ledger; reservations and scopes are named by their numbers.
#[derive(Debug, Clone)]
enum Step {
    Reserve { id: u8, scopes: u8, amount: i64, ttl: u32 },
    Settle { id: u8, amount: i64 },
    Release { id: u8 },
    Limit { scope: u8, period: u8, limit: Option<i64> },
    Wait { ms: i64 },
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let amount = prop_oneof![Just(0), 1..40_i64];
    let wait = prop_oneof![Just(1), Just(999), Just(1000), 1..DAY, Just(DAY), Just(7 * DAY)];
    prop_oneof![
        5 => (0..12_u8, 0..7_u8, amount, prop_oneof![Just(1000), Just(600_000)])
            .prop_map(|(id, scopes, amount, ttl)| Step::Reserve { id, scopes, amount, ttl }),
        4 => (0..12_u8, 0..50_i64).prop_map(|(id, amount)| Step::Settle { id, amount }),
        2 => (0..12_u8).prop_map(|id| Step::Release { id }),
        2 => (0..4_u8, 0..4_u8, prop::option::of(0..120_i64))
            .prop_map(|(scope, period, limit)| Step::Limit { scope, period, limit }),
        3 => wait.prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Expire),
    ]
}

fn scopes() -> [Scope; 4] {
    let scope = |kind, name: &str| Scope::new(kind, name).unwrap();
    [Scope::tenant(), scope(Kind::Team, "x"), scope(Kind::User, "a"), scope(Kind::User, "b")]
}

/// Which scopes a reservation counts in.
fn chosen(number: u8) -> Vec<usize> {
    [&[0][..], &[0, 2], &[0, 3], &[0, 1, 2], &[0, 1, 3], &[2], &[1]][usize::from(number)].to_vec()
}

/// Everything, added up anew whenever it is asked for.
#[derive(Default)]
struct Model {
    now: i64,
    limits: BTreeMap<(usize, usize), i64>,
    holds: BTreeMap<u8, Hold>,
}

struct Hold {
    scopes: Vec<usize>,
    amount: i64,
    made_at: i64,
    expires_at: i64,
    ended: Option<Ended>,
}

#[derive(Clone, Copy, PartialEq)]
enum Ended {
    Settled(i64),
    Released,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Done,
    Until(i64),
    Exceeded,
    Conflict,
    Unknown,
}

impl Model {
    /// Returns what a scope has spent and holds in a period.
    fn state(&self, scope: usize, period: Period) -> (i64, i64) {
        let counts = |hold: &&Hold| {
            hold.scopes.contains(&scope) && period.bounds(hold.made_at) == period.bounds(self.now)
        };
        let (mut spent, mut held) = (0, 0);
        for hold in self.holds.values().filter(counts) {
            match hold.ended {
                Some(Ended::Settled(amount)) => spent += amount,
                Some(Ended::Released) => {}
                None if hold.expires_at <= self.now => {}
                None => held += hold.amount,
            }
        }
        (spent, held)
    }

    fn take(&mut self, step: &Step) -> Answer {
        let now = self.now;
        match *step {
            Step::Wait { ms } => self.now += ms,
            Step::Expire => {}
            Step::Limit { scope, period, limit } => {
                let place = (usize::from(scope), usize::from(period));
                match limit {
                    Some(limit) => drop(self.limits.insert(place, limit)),
                    None => drop(self.limits.remove(&place)),
                }
            }
            Step::Reserve { id, scopes, amount, ttl } => {
                let (scopes, until) = (chosen(scopes), now + i64::from(ttl));
                if let Some(hold) = self.holds.get_mut(&id) {
                    let same = hold.amount == amount && hold.scopes == scopes;
                    let over = hold.expires_at <= now;
                    return match hold.ended {
                        Some(Ended::Settled(_)) if same => Answer::Until(hold.expires_at),
                        None if same && !over => {
                            hold.expires_at = hold.expires_at.max(until);
                            Answer::Until(hold.expires_at)
                        }
                        _ => Answer::Conflict,
                    };
                }
                for ((scope, period), limit) in &self.limits {
                    let (spent, held) = self.state(*scope, Period::ALL[*period]);
                    if scopes.contains(scope) && spent + held + amount > *limit {
                        return Answer::Exceeded;
                    }
                }
                let hold = Hold { scopes, amount, made_at: now, expires_at: until, ended: None };
                self.holds.insert(id, hold);
                return Answer::Until(until);
            }
            Step::Settle { id, amount } => {
                let Some(hold) = self.holds.get_mut(&id) else { return Answer::Unknown };
                match hold.ended {
                    None => hold.ended = Some(Ended::Settled(amount)),
                    Some(Ended::Settled(before)) if before == amount => {}
                    Some(_) => return Answer::Conflict,
                }
            }
            Step::Release { id } => {
                let none = Hold {
                    scopes: Vec::new(),
                    amount: 0,
                    made_at: now,
                    expires_at: now,
                    ended: Some(Ended::Released),
                };
                let hold = self.holds.entry(id).or_insert(none);
                match hold.ended {
                    Some(Ended::Settled(_)) => return Answer::Conflict,
                    // One whose time is over has ended by itself, and may be settled still.
                    None if hold.expires_at > now => hold.ended = Some(Ended::Released),
                    _ => {}
                }
            }
        }
        Answer::Done
    }
}

async fn ask(ledger: &dyn Ledger, tenant: &TenantId, step: &Step) -> Answer {
    let id = |id: u8| ReservationId::new(format!("r{id}")).unwrap();
    let done = match *step {
        Step::Wait { .. } => Ok(()),
        Step::Expire => ledger.expire().await.map(drop),
        Step::Limit { scope, period, limit } => {
            let scope = &scopes()[usize::from(scope)];
            let period = Period::ALL[usize::from(period)];
            ledger.set_limit(tenant, scope, period, limit.map(NanoUsd::new)).await
        }
        Step::Reserve { id: number, scopes: which, amount, ttl } => {
            let wanted = Reservation {
                id: id(number),
                tenant: tenant.clone(),
                scopes: chosen(which).into_iter().map(|at| scopes()[at].clone()).collect(),
                amount: NanoUsd::new(amount),
                ttl_ms: ttl,
            };
            match ledger.reserve(&wanted).await {
                Ok(until) => return Answer::Until(until),
                Err(fault) => Err(fault),
            }
        }
        Step::Settle { id: number, amount } => {
            ledger.settle(tenant, &id(number), NanoUsd::new(amount)).await
        }
        Step::Release { id: number } => ledger.release(tenant, &id(number)).await,
    };
    match done {
        Ok(()) => Answer::Done,
        Err(Error::Exceeded { .. }) => Answer::Exceeded,
        Err(Error::Conflict { .. }) => Answer::Conflict,
        Err(Error::Unknown(_)) => Answer::Unknown,
        Err(fault) => panic!("{}", fault),
    }
}

/// Runs many stories, each of a tenant of its own.
fn agree(ledger: &dyn Ledger, clock: &Hands, runtime: &tokio::runtime::Runtime, cases: u32) {
    let count = AtomicUsize::new(0);
    let story = (0..EVES.len() + 1, prop::collection::vec(step(), 1..40));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let run = |(eve, steps): (usize, Vec<Step>)| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let tenant = TenantId::new(format!("story {number}")).unwrap();
        let begin = EVES.get(eve).map_or(NOON, |day| eve_of(day));
        let mut model = Model { now: begin, ..Model::default() };
        for step in &steps {
            clock.0.store(model.now, Ordering::SeqCst);
            let (wanted, said) = (model.take(step), runtime.block_on(ask(ledger, &tenant, step)));
            prop_assert_eq!(said, wanted, "{:?}", step);
            clock.0.store(model.now, Ordering::SeqCst);
            for (at, scope) in scopes().iter().enumerate() {
                for period in Period::ALL {
                    let state = runtime.block_on(ledger.statement(&tenant, scope, period)).unwrap();
                    let said = (state.spent.nanos(), state.held.nanos());
                    prop_assert_eq!(
                        said,
                        model.state(at, period),
                        "{} {:?} after {:?}",
                        scope,
                        period,
                        step
                    );
                }
            }
        }
        let differences = runtime.block_on(ledger.verify(&tenant)).unwrap();
        prop_assert_eq!(differences, Vec::<String>::new());
        Ok(())
    };
    TestRunner::new(config).run(&story, run).unwrap();
}

/// Returns the moment two seconds before a day ends.
fn eve_of(day: &str) -> i64 {
    let day = time::Date::parse(day, time::macros::format_description!("[year]-[month]-[day]"));
    day.unwrap().midnight().assume_utc().unix_timestamp() * 1000 + DAY - 2000
}

fn prepared() -> (tokio::runtime::Runtime, Arc<Hands>, Arc<dyn Clock>) {
    let clock = Arc::new(Hands(NOON.into()));
    let shared: Arc<dyn Clock> = clock.clone();
    (tokio::runtime::Runtime::new().unwrap(), clock, shared)
}

#[test]
fn sqlite_does_what_the_model_does() {
    let directory = tempfile::tempdir().unwrap();
    let (runtime, clock, shared) = prepared();
    let file = directory.path().join("ledger.db");
    let ledger = runtime.block_on(Sqlite::open(file, Rules::default(), shared)).unwrap();
    agree(&ledger, &clock, &runtime, 128);
}

#[test]
fn postgres_does_what_the_model_does() {
    let server = testkit::Postgres::start().unwrap();
    let (runtime, clock, shared) = prepared();
    let url = server.url();
    let open = Postgres::open(&url, None, POOL, Rules::default(), shared);
    let ledger = runtime.block_on(open).unwrap();
    agree(&ledger, &clock, &runtime, 24);
}
