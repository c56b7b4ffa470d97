//! Who decides: Redis for all replicas, or this process when there is none or it does not answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use redis_link::Link;
use runtime::metrics::Metrics;
use tokio::time::Instant;
use types::RequestId;

use super::memory::{Memory, Uptime};
use super::redis::{PURPOSE, Redis};
use super::ticket::Ticket;
use super::{Ask, Backend, LimitsConfig, Owed, Taken, Verdict};

/// How long a start waits for Redis.
const AT_START: Duration = Duration::from_secs(1);
/// How often a Redis that does not answer is asked whether it does.
const LOOK: Duration = Duration::from_millis(100);
/// How often it hears that this process is alive, and which leases are out.
const BEAT: Duration = Duration::from_secs(2);
/// How many addresses are barred before those that are no more are looked for.
const SWEEP_AT: usize = 1024;

type Labels = [(&'static str, &'static str); 2];

/// Decides, wherever that is possible now.
pub(crate) struct Limiter {
    memory: Memory,
    redis: Option<Redis>,
    /// Among how many processes a limit is shared when Redis does not answer.
    replicas: AtomicU64,
    /// Addresses that showed too many credentials that are none, and until when they are not heard.
    barred: Mutex<HashMap<IpAddr, Instant>>,
    decisions: Family<Labels, Counter>,
}

impl Limiter {
    /// Begins to connect to Redis, if there is one, and goes on until it does.
    ///
    /// # Errors
    /// If its address is malformed.
    pub(crate) fn open(config: &LimitsConfig, metrics: &Metrics) -> anyhow::Result<Arc<Self>> {
        let wait = Duration::from_millis(config.redis_wait_ms);
        let link =
            config.redis.as_ref().map(|url| Link::open(PURPOSE, url, wait, &[])).transpose()?;
        let decisions = Family::default();
        let limiter = Arc::new(Self {
            memory: Memory::new(Arc::new(Uptime::default())),
            redis: link.map(|link| Redis::new(link, wait)),
            replicas: AtomicU64::new(config.replicas.max(1)),
            barred: Mutex::default(),
            decisions: metrics.register(
                "baton_limiter_decisions",
                "Decisions about rate limits, by who made them",
                decisions,
            ),
        });
        let degraded = metrics.register(
            "baton_limiter_degraded",
            "1 while Redis does not answer and each process admits its share of every limit",
            Gauge::<i64, AtomicI64>::default(),
        );
        if let Some(redis) = &limiter.redis {
            degraded.set(1);
            let least = config.replicas.max(1);
            let here = Arc::downgrade(&limiter);
            let listening = redis.listen(move |changed| {
                if let Some(limiter) = here.upgrade() {
                    limiter.memory.hear(changed);
                }
            })?;
            let in_touch = keep_in_touch(Arc::downgrade(&limiter), degraded, least);
            // Both end with the limiter.
            tokio::spawn(async move {
                tokio::select! { () = in_touch => {}, () = listening => {} }
            });
        }
        Ok(limiter)
    }

    /// Waits a moment for Redis, so that the first requests are everybody's.
    pub(crate) async fn ready(&self) {
        let Some(redis) = &self.redis else { return };
        let up = async {
            while !redis.is_up() {
                tokio::time::sleep(LOOK / 10).await;
            }
        };
        // Without it the share of this process holds.
        let _ = tokio::time::timeout(AT_START, up).await;
    }

    /// Decides, and never fails. What was taken ends with the ticket, which there is if all was.
    pub(crate) async fn decide(self: &Arc<Self>, ask: Ask) -> (Verdict, Option<Ticket>) {
        let replicas = self.replicas.load(Ordering::Relaxed);
        let asked = match &self.redis {
            Some(redis) => redis.decide(&ask).await,
            None => None,
        };
        let (verdict, redis_ms, memory_ms, backend) = match asked {
            Some(verdict) => {
                let here_ms = self.memory.admit(&ask, &verdict);
                let at_ms = verdict.at_ms;
                (verdict, Some(at_ms), here_ms, "redis")
            }
            None => {
                let verdict = self.memory.share(&ask, replicas, self.redis.is_some());
                let at_ms = verdict.at_ms;
                (verdict, None, at_ms, if self.redis.is_some() { "share" } else { "memory" })
            }
        };
        let outcome = if verdict.admitted { "admitted" } else { "refused" };
        self.decisions.get_or_create(&[("outcome", outcome), ("backend", backend)]).inc();
        let ticket = verdict
            .admitted
            .then(|| Ticket::new(Arc::clone(self), ask, &verdict, redis_ms, memory_ms));
        (verdict, ticket)
    }

    /// Changes what was taken at a time of each backend.
    pub(super) async fn correct(
        &self,
        (bucket, window_ms): (&str, u64),
        (redis_ms, memory_ms): (Option<u64>, u64),
        by: i64,
    ) {
        let is_owed = self.redis.is_some() && redis_ms.is_none();
        self.memory.correct(&Taken { bucket, window_ms, at_ms: memory_ms, is_owed }, by).await;
        if let (Some(redis), Some(at_ms)) = (&self.redis, redis_ms) {
            redis.correct(&Taken { bucket, window_ms, at_ms, is_owed }, by).await;
        }
    }

    /// Ends leases, wherever they are.
    pub(super) async fn end(&self, ask: &Ask) {
        self.memory.end(ask).await;
        if let Some(redis) = &self.redis {
            redis.end(ask).await;
        }
    }

    /// Hears nobody from an address for so long.
    pub(crate) fn bar(&self, address: IpAddr, ms: u64) {
        let (now, mut barred) = (Instant::now(), self.barred());
        if barred.len() >= SWEEP_AT {
            barred.retain(|_, until| *until > now);
        }
        barred.insert(address, now + Duration::from_millis(ms));
    }

    /// Returns how long an address is barred yet.
    pub(crate) fn is_barred(&self, address: IpAddr) -> Option<Duration> {
        let until = *self.barred().get(&address)?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    fn barred(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.barred.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells Redis what it missed as soon as it answers, and before any request asks it again; and that
/// this process is alive.
async fn keep_in_touch(limiter: Weak<Limiter>, degraded: Gauge<i64, AtomicI64>, least: u64) {
    let mut beat = Instant::now();
    // What was told and not acknowledged is told again as it was: it counts once.
    let mut untold: Option<(String, Vec<Owed>)> = None;
    loop {
        let Some(limiter) = limiter.upgrade() else { return };
        let Some(redis) = &limiter.redis else { return };
        let was_up = redis.is_up();
        degraded.set(i64::from(!was_up));
        if was_up && beat.elapsed() >= BEAT || !was_up && redis.answers().await {
            // It may have been away and come back between two looks: what is owed is told either way.
            loop {
                let all = || (RequestId::generate().to_string(), limiter.memory.owed());
                let (name, owed) = untold.take().unwrap_or_else(all);
                if owed.is_empty() {
                    break;
                }
                if !redis.owe(&name, &owed, limiter.memory.now_ms()).await {
                    untold = Some((name, owed));
                    break;
                }
                limiter.memory.told(&owed);
            }
            if let Some(replicas) = redis.replicas().await {
                limiter.replicas.store(replicas.max(least), Ordering::Relaxed);
            }
            let leases = limiter.memory.leases();
            redis.renew(&leases, |lease| limiter.memory.is_out(lease)).await;
            beat = Instant::now();
            degraded.set(i64::from(!redis.is_up()));
        }
        drop(limiter);
        tokio::time::sleep(LOOK).await;
    }
}
