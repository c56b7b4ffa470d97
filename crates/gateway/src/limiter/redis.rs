//! Limits in Redis, for every replica. All times are Redis's own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redis_link::fred::prelude::{ClientLike as _, LuaInterface as _};
use redis_link::{Link, Purpose};
use tokio::time::Instant;

use super::window::{SLOTS, slot_ms};
use super::{Ask, Backend, Changed, Owed, Seen, Taken, Verdict};

pub(crate) const PURPOSE: Purpose = Purpose {
    setting: "gateway.limits.redis",
    without: "each gateway admits its share of every rate limit",
};

/// How long a lease is good that nobody renews.
const LEASE: Duration = Duration::from_secs(15);
/// How long a replica counts that is not heard of.
const ALIVE: Duration = Duration::from_secs(10);
/// How long it is remembered that something was told.
const TOLD: Duration = Duration::from_secs(3600);
/// What the names of buckets begin with.
const PREFIX: &str = "baton:limit:";
/// How many buckets are told of at once.
const CHUNK: usize = 500;

/// Decides. Of each window the limit, the length of a slot and the cost; of each lease the limit. A hash
/// holds a window: the numbers of slots, and what was taken in each. A sorted set holds leases by when
/// they end. A command that comes late decides nothing: who sent it has gone on without. The last two words say
/// who asks and in which channel all hear what was admitted; where that is forbidden it counts all the same.
const DECIDE: &str = r"
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local windows, id, lease, late = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if late > 0 and now > late then return {now, -1} end
local told, slots = {now, 1}, {}
for i = 1, windows do
  local limit, slot_ms, cost = tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3]), tonumber(ARGV[3 * i + 4])
  local slot = math.floor(now / slot_ms)
  local held, counts, used, last = redis.call('HGETALL', KEYS[i]), {}, 0, nil
  for f = 1, #held, 2 do
    local number, count = tonumber(held[f]), tonumber(held[f + 1])
    if math.abs(slot - number) > 20 then
      redis.call('HDEL', KEYS[i], held[f])
    else
      counts[number], used = count, used + count
      if count > 0 and number > (last or 0) then last = number end
    end
  end
  local wait = 0
  if used + cost > limit then
    local left = used
    wait, told[2] = -1, 0
    for number = slot - 20, slot + 20 do
      left = left - (counts[number] or 0)
      if left + cost <= limit then
        wait = (number + 21) * slot_ms - now
        break
      end
    end
  end
  slots[i] = string.format('%.0f', slot)
  told[#told + 1], told[#told + 2] = used, wait
  told[#told + 1] = last and (last + 21) * slot_ms - now or 0
end
for j = windows + 1, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[j], '-inf', now)
  local free = tonumber(ARGV[4 + 2 * windows + j]) - redis.call('ZCARD', KEYS[j])
  if free <= 0 then told[2] = 0 end
  told[#told + 1] = free
end
if told[2] == 0 then return told end
local changed = {ARGV[#ARGV - 1]}
for i = 1, windows do
  local cost = ARGV[3 * i + 4]
  if cost ~= '0' then
    redis.call('HINCRBY', KEYS[i], slots[i], cost)
    redis.call('PEXPIRE', KEYS[i], 21 * ARGV[3 * i + 3])
    for _, word in ipairs({KEYS[i], ARGV[3 * i + 3], '0', cost}) do changed[#changed + 1] = word end
  end
end
if #changed > 1 then redis.pcall('PUBLISH', ARGV[#ARGV], cjson.encode(changed)) end
for j = windows + 1, #KEYS do
  redis.call('ZADD', KEYS[j], now + lease, id)
  redis.call('PEXPIRE', KEYS[j], lease)
end
return told";

/// Changes what was taken: the length of a slot, when, by how much; who says so, and where all hear of it.
const CORRECT: &str = r"
local slot = math.floor(ARGV[2] / ARGV[1])
local field = string.format('%.0f', slot)
if redis.call('HEXISTS', KEYS[1], field) == 0 then return 0 end
if redis.call('HINCRBY', KEYS[1], field, ARGV[3]) < 0 then redis.call('HSET', KEYS[1], field, 0) end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local age = string.format('%.0f', math.max(0, math.floor(now / ARGV[1]) - slot))
redis.pcall('PUBLISH', ARGV[5], cjson.encode({ARGV[4], KEYS[1], ARGV[1], age, ARGV[3]}))
return 1";

/// Counts what others have admitted, once by each name: how long that is remembered; of each bucket the
/// length of a slot, how many ago, how much. The last two words are as those of [`DECIDE`].
const OWE: &str = r"
if not redis.call('SET', KEYS[1], 1, 'NX', 'PX', ARGV[1]) then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local changed = {ARGV[#ARGV - 1]}
for i = 2, #KEYS do
  local slot_ms, age, count = ARGV[3 * i - 4], ARGV[3 * i - 3], ARGV[3 * i - 2]
  local slot = math.floor(now / slot_ms) - age
  redis.call('HINCRBY', KEYS[i], string.format('%.0f', slot), count)
  redis.call('PEXPIRE', KEYS[i], 21 * slot_ms)
  for _, word in ipairs({KEYS[i], slot_ms, age, count}) do changed[#changed + 1] = word end
end
redis.pcall('PUBLISH', ARGV[#ARGV], cjson.encode(changed))
return 1";

/// Renews leases: how long, and their ids.
const RENEW: &str = r"
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], now + ARGV[1], ARGV[i + 1])
  redis.call('PEXPIRE', KEYS[i], ARGV[1])
end
return 1";

/// Says that a replica is alive, for how long; returns how many are.
const ALIVE_TOO: &str = r"
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('ZCARD', KEYS[1])";

const END: &str = "for i = 1, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end return 1";

pub(crate) struct Redis {
    link: Link,
    /// Where all hear what others change: channels are of all databases of a server, and buckets of one.
    channel: String,
    wait: Duration,
    /// When this process's own time began.
    since: Instant,
    /// How far Redis's clock is ahead of that; 0 while it is not known.
    ahead_ms: AtomicU64,
}

impl Redis {
    pub(crate) fn new(link: Link, wait: Duration) -> Self {
        let database = link.client().client_config().database.unwrap_or(0);
        let channel = format!("baton:limit:changes:{database}");
        Self { link, channel, wait, since: Instant::now(), ahead_ms: AtomicU64::new(0) }
    }

    /// Gives `each` what other processes change from now on, as long as Redis is there.
    ///
    /// # Errors
    /// If no connection can be prepared.
    pub(crate) fn listen(
        &self,
        each: impl Fn(&Changed) + Send + 'static,
    ) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
        let mut changes = self.link.subscribe(&self.channel)?;
        let replica = self.link.replica().to_owned();
        Ok(async move {
            loop {
                let told = changes.next().await;
                others(&told, &replica).iter().for_each(&each);
            }
        })
    }

    /// Who says something, and where all hear it.
    fn publisher(&self) -> [String; 2] {
        [self.link.replica().to_owned(), self.channel.clone()]
    }

    pub(crate) fn is_up(&self) -> bool {
        self.link.is_up()
    }

    pub(crate) async fn answers(&self) -> bool {
        self.link.answers().await
    }

    /// Counts this replica among those that are alive, and returns how many are.
    pub(crate) async fn replicas(&self) -> Option<u64> {
        let words = vec![millis(ALIVE), self.link.replica().to_owned()];
        let key = vec!["baton:limit:replicas".to_owned()];
        self.link.try_again(self.link.client().eval(ALIVE_TOO, key, words)).await
    }

    /// Counts what was admitted here while it did not answer, of which nobody else knows at `now_ms`, by
    /// this process's clock; returns whether it answered now. Told again by the same `name`, also in part,
    /// it counts once.
    pub(crate) async fn owe(&self, name: &str, owed: &[Owed], now_ms: u64) -> bool {
        let slots = owed.iter().flat_map(|owed| owed.slots.iter().map(move |slot| (owed, slot)));
        let slots: Vec<_> = slots.collect();
        for (number, chunk) in slots.chunks(CHUNK).enumerate() {
            let mut keys = vec![key(&format!("owed:{name}:{number}"))];
            keys.extend(chunk.iter().map(|(owed, _)| key(&owed.bucket)));
            let mut words = vec![millis(TOLD)];
            for (owed, (age, count)) in chunk {
                let slot_ms = slot_ms(owed.window_ms);
                // It is older by now than it was when it was written down.
                let age = age + (now_ms / slot_ms).saturating_sub(owed.at_ms / slot_ms);
                words.extend([slot_ms.to_string(), age.to_string(), count.to_string()]);
            }
            words.extend(self.publisher());
            let told = self.link.client().eval::<i64, _, _, _>(OWE, keys, words);
            if self.link.try_again(told).await.is_none() {
                return false;
            }
        }
        true
    }

    /// Says that leases are still out: a bucket and an id each. One that ended meanwhile, as `is_out`
    /// says, is ended again: it may be there anew.
    pub(crate) async fn renew(
        &self,
        leases: &[(String, String)],
        is_out: impl Fn(&(String, String)) -> bool,
    ) {
        for chunk in leases.chunks(CHUNK) {
            let keys: Vec<String> = chunk.iter().map(|(bucket, _)| key(bucket)).collect();
            let mut words = vec![millis(LEASE)];
            words.extend(chunk.iter().map(|(_, id)| id.clone()));
            self.link.try_again(self.link.client().eval::<i64, _, _, _>(RENEW, keys, words)).await;
            for (bucket, id) in chunk.iter().filter(|lease| !is_out(lease)) {
                let ended = self.link.client().eval::<i64, _, _, _>(
                    END,
                    vec![key(bucket)],
                    vec![id.clone()],
                );
                self.link.try_again(ended).await;
            }
        }
    }

    /// Returns until when, by Redis's clock, a command is of use.
    fn late_ms(&self) -> u64 {
        match self.ahead_ms.load(Ordering::Relaxed) {
            0 => 0,
            ahead => ahead
                .saturating_add(self.own_ms())
                .saturating_add(as_ms(self.wait).saturating_mul(2)),
        }
    }

    fn own_ms(&self) -> u64 {
        as_ms(self.since.elapsed())
    }
}

#[async_trait]
impl Backend for Redis {
    async fn decide(&self, ask: &Ask) -> Option<Verdict> {
        let windows = ask.windows.iter().map(|wanted| key(&wanted.bucket));
        let keys: Vec<String> =
            windows.chain(ask.leases.iter().map(|one| key(&one.bucket))).collect();
        let mut words = vec![ask.windows.len().to_string(), ask.id.clone(), millis(LEASE)];
        words.push(self.late_ms().to_string());
        for wanted in &ask.windows {
            let (cost, slot) = (wanted.cost.min(wanted.limit), slot_ms(wanted.window_ms));
            words.extend([wanted.limit.to_string(), slot.to_string(), cost.to_string()]);
        }
        words.extend(ask.leases.iter().map(|lease| lease.limit.to_string()));
        words.extend(self.publisher());
        let told = self.link.ask(self.link.client().eval::<Vec<i64>, _, _, _>(DECIDE, keys, words));
        let verdict = read(ask, &told.await?)?;
        self.ahead_ms.store(verdict.at_ms.saturating_sub(self.own_ms()), Ordering::Relaxed);
        Some(verdict)
    }

    async fn correct(&self, taken: &Taken<'_>, by: i64) {
        let slot = slot_ms(taken.window_ms);
        let mut words = vec![slot.to_string(), taken.at_ms.to_string(), by.to_string()];
        words.extend(self.publisher());
        let key = vec![key(taken.bucket)];
        self.link.ask(self.link.client().eval::<i64, _, _, _>(CORRECT, key, words)).await;
    }

    async fn end(&self, ask: &Ask) {
        let keys: Vec<String> = ask.leases.iter().map(|lease| key(&lease.bucket)).collect();
        let ended = self.link.client().eval::<i64, _, _, _>(END, keys, vec![ask.id.clone()]);
        self.link.ask(ended).await;
    }
}

/// Reads what [`DECIDE`] says: when, whether, three numbers a window and one a lease.
fn read(ask: &Ask, told: &[i64]) -> Option<Verdict> {
    let (head, rest) = told.split_at_checked(2)?;
    let (windows, free) = rest.split_at_checked(3 * ask.windows.len())?;
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let seen = ask.windows.iter().zip(windows.chunks_exact(3)).map(|(wanted, told)| Seen {
        cost: wanted.cost.min(wanted.limit),
        left: wanted.limit.saturating_sub(count(told[0])),
        wait_ms: u64::try_from(told[1]).ok(),
        reset_ms: count(told[2]),
    });
    let windows = seen.collect();
    let free = free.iter().map(|free| count(*free)).collect();
    (head[1] >= 0).then(|| Verdict { admitted: head[1] == 1, at_ms: count(head[0]), windows, free })
}

/// Reads what was published: who did it, and four words a bucket. Nothing of what this `replica` did itself, nor of
/// what cannot be read.
fn others(told: &str, replica: &str) -> Vec<Changed> {
    let words: Vec<String> = serde_json::from_str(told).unwrap_or_default();
    let Some((_, words)) = words.split_first().filter(|(who, _)| *who != replica) else {
        return Vec::new();
    };
    let changed = words.chunks_exact(4).filter_map(|words| {
        let bucket = words[0].strip_prefix(PREFIX)?.to_owned();
        let (slot_ms, age) = (words[1].parse::<u64>().ok()?, words[2].parse().ok()?);
        let window_ms = slot_ms.checked_mul(SLOTS)?;
        Some(Changed { bucket, window_ms, age, by: words[3].parse().ok()? })
    });
    changed.collect()
}

fn key(bucket: &str) -> String {
    format!("{PREFIX}{bucket}")
}

fn as_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}
