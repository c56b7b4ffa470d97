//! What replicas of the router know of each other's circuit breakers.
//!
//! A task tells Redis what changed here and learns what changed elsewhere, a few times a second: no
//! call waits for it. Only a probe asks first, so that it is the only one of all replicas.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis_link::fred::prelude::LuaInterface as _;
use redis_link::{Link, Purpose};

use crate::breaker::Opened;
use crate::catalog::{Candidate, Catalog};

/// What the router asks Redis for.
pub(crate) const PURPOSE: Purpose =
    Purpose { setting: "router.redis", without: "each router is on its own" };

/// How often replicas tell each other.
const EVERY: Duration = Duration::from_millis(200);

/// How long a probe keeps others from probing, if nothing is heard of it.
const PROBE: Duration = Duration::from_secs(10);

/// A hash: `is NAME` is `closed`, or the time in milliseconds since 1970 until which a breaker is open
/// and how long it waited; `probe NAME` is until when who probes. All times are Redis's own.
const KEY: &str = "baton:router:breakers";

/// Writes what changed, and by whom: a name, for how long it is open (below zero when closed) and how
/// long it waited; returns the time, and everything. A probe is over when its own replica says what it
/// found, or anything closed.
const TELL: &str = r"
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for i = 2, #ARGV, 3 do
  local is = 'closed'
  if tonumber(ARGV[i + 1]) >= 0 then
    is = string.format('%.0f %s', now + ARGV[i + 1], ARGV[i + 2])
  end
  redis.call('HSET', KEYS[1], 'is ' .. ARGV[i], is)
  local probe = redis.call('HGET', KEYS[1], 'probe ' .. ARGV[i]) or ''
  if is == 'closed' or string.match(probe, '^%d+ (.*)$') == ARGV[1] then
    redis.call('HDEL', KEYS[1], 'probe ' .. ARGV[i])
  end
end
if #ARGV > 1 then redis.call('PEXPIRE', KEYS[1], 600000) end
local all = redis.call('HGETALL', KEYS[1])
table.insert(all, 1, string.format('%.0f', now))
return all";

/// Lets one replica probe: a name, who asks, for how long.
const MAY_PROBE: &str = r"
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local is = redis.call('HGET', KEYS[1], 'is ' .. ARGV[1]) or ''
local open = tonumber(string.match(is, '^(%d+) ') or 0)
if open > now then return 0 end
local probe = redis.call('HGET', KEYS[1], 'probe ' .. ARGV[1]) or ''
local till, who = string.match(probe, '^(%d+) (.*)$')
if till and tonumber(till) > now and who ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'probe ' .. ARGV[1], string.format('%.0f %s', now + ARGV[3], ARGV[2]))
redis.call('PEXPIRE', KEYS[1], 600000)
return 1";

/// Shares the breakers of what `catalog` returns, for as long as it returns one.
pub(crate) fn share(
    catalog: impl Fn() -> Option<Arc<Catalog>> + Send + Sync + 'static,
    link: &Arc<Link>,
) {
    tokio::spawn(tell(catalog, Arc::clone(link)));
}

/// Returns whether this replica may probe a candidate; without Redis it may.
pub(crate) async fn may_probe(link: &Link, candidate: &str) -> bool {
    let lease = PROBE.as_millis().to_string();
    let words = vec![candidate.to_owned(), link.replica().to_owned(), lease];
    let granted = link.ask(link.client().eval::<i64, _, _, _>(MAY_PROBE, KEY, words)).await;
    granted != Some(0)
}

async fn tell(catalog: impl Fn() -> Option<Arc<Catalog>> + Send + Sync, link: Arc<Link>) {
    let mut known = HashMap::new();
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let Some(catalog) = catalog() else { return };
        turn(&catalog, &link, &mut known).await;
    }
}

/// What this replica and Redis agreed on.
#[derive(Debug, Default)]
struct Known {
    opened: Option<Opened>,
    /// As Redis has it.
    record: Option<String>,
    /// What was told last may have arrived, or may arrive yet.
    is_unsure: bool,
}

/// Tells what changed here, and takes over what changed elsewhere.
async fn turn(catalog: &Catalog, link: &Link, known: &mut HashMap<String, Known>) {
    let (mut told, mut words) = (HashMap::new(), vec![link.replica().to_owned()]);
    let started = Instant::now();
    for candidate in catalog.shared() {
        let (name, opened) = (candidate.name(), candidate.breaker().opened());
        let known = known.entry(name.clone()).or_default();
        if opened == known.opened && !known.is_unsure {
            continue;
        }
        known.is_unsure = true;
        let millis = |time: Duration| time.as_millis().to_string();
        let left = opened.map(|opened| millis(opened.until.saturating_duration_since(started)));
        words.push(name.clone());
        words.push(left.unwrap_or_else(|| "-1".to_owned()));
        words.push(millis(opened.map_or(Duration::ZERO, |opened| opened.wait)));
        told.insert(name, opened);
    }
    let all = link.client().eval::<Vec<String>, _, _, _>(TELL, KEY, words);
    let Some(all) = link.try_again(all).await else { return };
    let Some((now_ms, all)) = all.split_first() else { return };
    let now_ms = now_ms.parse().unwrap_or_default();
    let is = all.chunks_exact(2).filter_map(|pair| Some((pair[0].strip_prefix("is ")?, &pair[1])));
    let is: HashMap<&str, &String> = is.collect();
    for candidate in catalog.shared() {
        let name = candidate.name();
        let record = is.get(name.as_str()).copied();
        let known = known.entry(name.clone()).or_default();
        if let Some(opened) = told.get(&name) {
            (known.opened, known.is_unsure) = (*opened, false);
            known.record = record.cloned();
        } else if known.record.as_ref() != record {
            learn(candidate, known, record, now_ms);
        }
    }
}

/// Takes over what another replica said, unless something happened here meanwhile: that is told next.
fn learn(candidate: &Candidate, known: &mut Known, record: Option<&String>, now_ms: u64) {
    let Some(record) = record else {
        // Redis has forgotten it: what is open is told again.
        (known.record, known.opened) = (None, None);
        return;
    };
    let opened = match record.as_str() {
        "closed" => None,
        open => match read(open, Instant::now(), now_ms) {
            Some(opened) => Some(opened),
            None => return,
        },
    };
    let mut breaker = candidate.breaker();
    if breaker.opened() == known.opened {
        breaker.agree(Instant::now(), opened);
        known.opened = breaker.opened();
        known.record = Some(record.clone());
    }
}

/// Reads until when a breaker is open, and how long it waited.
fn read(record: &str, now: Instant, now_ms: u64) -> Option<Opened> {
    let (until_ms, wait_ms) = record.split_once(' ')?;
    let left = until_ms.parse::<u64>().ok()?.saturating_sub(now_ms);
    let wait = Duration::from_millis(wait_ms.parse().ok()?);
    Some(Opened { until: now.checked_add(Duration::from_millis(left))?, wait })
}

#[cfg(test)]
mod tests {
    use proto::router::Circuit;
    use testkit::Redis;

    use super::*;
    use crate::config::Config;
    use crate::prices::Prices;

    /// A replica of one candidate.
    struct Replica {
        catalog: Arc<Catalog>,
        link: Arc<Link>,
    }

    impl Replica {
        fn new(redis: &Redis) -> Self {
            let toml = "[providers.p]\nkind='openai'\nbase_url='http://127.0.0.1:1/v1'\ntier=0\n\
                        models=[{name='m'}]\n";
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), toml).unwrap();
            let config: Config = runtime::config::load(Some(file.path())).unwrap();
            // A test's machine may be slow; what waits must be right all the same.
            let wait = Duration::from_secs(5);
            let link = Arc::new(Link::open(PURPOSE, &redis.url().into(), wait, &[]).unwrap());
            let catalog =
                Arc::new(Catalog::new(&config, &Prices::default(), None, Some(&link)).unwrap());
            let shared = Arc::downgrade(&catalog);
            share(move || shared.upgrade(), &link);
            Self { catalog, link }
        }

        fn candidate(&self) -> &Candidate {
            self.catalog.shared().next().unwrap()
        }

        fn fail(&self, come_back: Duration) {
            let mut breaker = self.candidate().breaker();
            let permit = breaker.allow(Instant::now()).unwrap();
            breaker.failed(permit, Instant::now(), Some(come_back));
        }

        fn close(&self) {
            self.candidate().breaker().agree(Instant::now(), None);
        }

        async fn may_ask(&self) -> bool {
            self.candidate().allows().await.is_some()
        }

        /// Asks until Redis's own clock lets it.
        async fn probe(&self) {
            let asked = async {
                while !self.may_ask().await {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(LONG / 2, asked).await.unwrap();
        }

        async fn is(&self, wanted: Circuit) {
            let seen = async {
                while self.candidate().circuit() != wanted {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
            seen.unwrap_or_else(|_| panic!("never {wanted:?}"));
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_one_replica_learns_of_a_candidate_all_know() {
        let redis = Redis::start().unwrap();
        let (one, other) = (Replica::new(&redis), Replica::new(&redis));
        one.fail(LONG);
        other.is(Circuit::Open).await;
        Replica::new(&redis).is(Circuit::Open).await;
        other.close();
        one.is(Circuit::Closed).await;
    }

    #[tokio::test]
    async fn of_all_replicas_one_probes() {
        let redis = Redis::start().unwrap();
        let replicas: Vec<_> = (0..3).map(|_| Replica::new(&redis)).collect();
        replicas[0].fail(Duration::from_millis(600));
        for replica in &replicas {
            replica.is(Circuit::Open).await;
        }
        for replica in &replicas {
            replica.is(Circuit::HalfOpen).await;
        }
        replicas[1].probe().await;
        assert!(!replicas[0].may_ask().await && !replicas[2].may_ask().await);
        replicas[1].close();
        for replica in &replicas {
            replica.is(Circuit::Closed).await;
            assert!(replica.may_ask().await);
        }
    }

    #[tokio::test]
    async fn what_a_replica_hears_of_an_earlier_call_ends_nobody_s_probe() {
        let redis = Redis::start().unwrap();
        let (one, other) = (Replica::new(&redis), Replica::new(&redis));
        let early = one.candidate().breaker().allow(Instant::now()).unwrap();
        one.fail(Duration::from_millis(600));
        other.is(Circuit::Open).await;
        other.is(Circuit::HalfOpen).await;
        other.probe().await;
        let before = other.candidate().breaker().opened();
        let now = Instant::now();
        one.candidate().breaker().failed(early, now, Some(Duration::from_millis(1)));
        let heard = async {
            while other.candidate().breaker().opened() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG / 2, heard).await.unwrap();
        one.is(Circuit::HalfOpen).await;
        assert!(!one.may_ask().await, "the other one's probe is out");
    }

    #[tokio::test]
    async fn without_redis_each_replica_is_on_its_own_and_then_together_again() {
        let mut redis = Redis::start().unwrap();
        let (one, other) = (Replica::new(&redis), Replica::new(&redis));
        one.fail(LONG);
        other.is(Circuit::Open).await;
        redis.freeze().unwrap();
        one.close();
        assert!(one.may_ask().await, "a closed one waits for nothing");
        one.fail(Duration::ZERO);
        assert!(one.may_ask().await, "a probe is let through when nobody says no");
        one.close();
        redis.thaw().unwrap();
        other.is(Circuit::Closed).await;
        redis.kill().unwrap();
        other.fail(LONG);
        assert_eq!(one.candidate().circuit(), Circuit::Closed);
        redis.restart().unwrap();
        one.is(Circuit::Open).await;
        assert!(other.link.is_local(), "a socket is here");
    }
}
