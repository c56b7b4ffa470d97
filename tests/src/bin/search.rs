//! Measures the embedded search: how long a query takes, how fast passages are indexed, how long a start takes and
//! how much memory they need. Run it by `scripts/bench.sh search [SECONDS A MEASUREMENT] [PASSAGES]`.
//!
//! 100,000 passages of one tenant unless told otherwise, a tenth of them with a tag, and a tenth as many of another: a
//! tenth of a system with ten tenants. Words are as rare as in a language (Zipf); vectors have 384 numbers and are of a small model, because
//! what is measured is the search and not the model.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use proto::retriever::filter::Kind as FilterKind;
use proto::retriever::retriever_service_client::RetrieverServiceClient;
use proto::retriever::value::Kind as ValueKind;
use proto::retriever::{
    Condition, Filter, Operator, PutDocumentRequest, SearchRequest, Value, Values,
};
use retriever::{Config, Embedding, Peers};
use runtime::transport::{Peer, in_process};
use types::{CallContext, TenantId, UserId};

/// Passages in a document; the large tenant has at least ten documents.
const PASSAGES: usize = 100;
/// Words of the language, and of a passage.
const VOCABULARY: usize = 20_000;
const WORDS: usize = 150;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let argument = |at, default| -> anyhow::Result<usize> {
        let Some(text) = std::env::args().nth(at) else { return Ok(default) };
        text.parse().with_context(|| format!("{text:?} is no number"))
    };
    let (seconds, passages) = (argument(1, 10)?, argument(2, 100_000)?);
    anyhow::ensure!(passages >= 10 * PASSAGES, "at least {} passages are measured", 10 * PASSAGES);
    let documents = passages / PASSAGES;
    let directory = tempfile::tempdir()?;
    let vocabulary: Vec<String> = (0..VOCABULARY).map(word).collect();
    let words: Vec<&str> = vocabulary.iter().map(String::as_str).collect();
    testkit::model::write(&directory.path().join("model"), &words, 384, 1)?;

    let peer = open(directory.path()).await?;
    let mut random = fastrand::Rng::with_seed(1);
    let (large, small) = (context("large")?, context("small")?);
    let begun = Instant::now();
    for number in 0..documents {
        put(&peer, &large, number, &vocabulary, &mut random).await?;
    }
    for number in 0..documents / 10 {
        put(&peer, &small, number, &vocabulary, &mut random).await?;
    }
    let all = (documents + documents / 10) * PASSAGES;
    println!(
        "{all} passages put in {:.1} s, vectors of a small model included",
        begun.elapsed().as_secs_f64()
    );
    drop(peer);

    let (begun, before) = (Instant::now(), cpu()?);
    let peer = open(directory.path()).await?;
    let (wall, used) = (begun.elapsed(), cpu()?.saturating_sub(before));
    #[allow(clippy::cast_precision_loss, reason = "a count of passages")]
    let rate = all as f64 / used.as_secs_f64();
    println!(
        "start with {all} passages: {:.1} s, {:.1} s of processor ({rate:.0} passages a CPU-second), {:.0} MB resident",
        wall.as_secs_f64(),
        used.as_secs_f64(),
        resident()?
    );

    println!("\n| searched | queries | p50 ms | p99 ms | CPU ms |");
    println!("|---|---:|---:|---:|---:|");
    let time = Duration::from_secs(seconds as u64);
    let tag = Condition {
        field: "tag".to_owned(),
        operator: Operator::In.into(),
        values: vec![Value { kind: Some(ValueKind::Number(3.0)) }],
    };
    let tag = Filter { kind: Some(FilterKind::Condition(tag)) };
    for (name, context, filter) in [
        (format!("{} passages, words and vectors", documents * PASSAGES), &large, None),
        ("those of one tag in ten".to_owned(), &large, Some(tag)),
        (format!("a tenant of {}", documents / 10 * PASSAGES), &small, None),
    ] {
        measure(&name, &peer, context, filter, &vocabulary, time).await?;
    }
    Ok(())
}

async fn open(directory: &Path) -> anyhow::Result<Peer> {
    let config = Config {
        embedding: Some(Embedding { model: Some(directory.join("model")), ..Embedding::default() }),
        ..Config::at(&directory.join("documents.db"))
    };
    let peers = Peers::remote(&config.peers)?;
    Ok(in_process(retriever::server(config, peers).await?))
}

fn context(tenant: &str) -> anyhow::Result<CallContext> {
    Ok(CallContext::new(TenantId::new(tenant)?, UserId::new("u")?))
}

/// Returns a word of letters.
fn word(number: usize) -> String {
    let (mut rest, mut word) = (number + 1_000, String::new());
    while rest > 0 {
        word.push(char::from(b"bcdfghklmnprstvw"[rest % 16]));
        word.push(char::from(b"aeiou"[rest % 5]));
        rest /= 16;
    }
    word
}

/// Picks a word: the hundredth is a hundredth as common as the first.
fn pick<'a>(vocabulary: &'a [String], random: &mut fastrand::Rng) -> &'a str {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among few words"
    )]
    let rank = (vocabulary.len() as f64).powf(random.f64()) as usize - 1;
    &vocabulary[rank.min(vocabulary.len() - 1)]
}

async fn put(
    peer: &Peer,
    context: &CallContext,
    number: usize,
    vocabulary: &[String],
    random: &mut fastrand::Rng,
) -> anyhow::Result<()> {
    let mut text = String::new();
    for passage in 0..PASSAGES {
        text += &format!("# Part {passage}\n\n");
        for _ in 0..WORDS {
            text += pick(vocabulary, random);
            text.push(' ');
        }
        text += "\n\n";
    }
    #[allow(clippy::cast_precision_loss, reason = "a digit")]
    let tag = Value { kind: Some(ValueKind::Number((number % 10) as f64)) };
    let message = PutDocumentRequest {
        source: format!("{number}.md"),
        content: text.into(),
        attributes: [("tag".to_owned(), Values { values: vec![tag] })].into(),
        ..PutDocumentRequest::default()
    };
    let mut client = RetrieverServiceClient::new(peer.clone());
    client.put_document(runtime::context::request(context, message)).await?;
    Ok(())
}

async fn measure(
    name: &str,
    peer: &Peer,
    context: &CallContext,
    filter: Option<Filter>,
    vocabulary: &[String],
    time: Duration,
) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(2);
    let mut client = RetrieverServiceClient::new(peer.clone());
    let (begun, before) = (Instant::now(), cpu()?);
    let mut taken = Vec::new();
    while begun.elapsed() < time {
        let words: Vec<&str> = (0..6).map(|_| pick(vocabulary, &mut random)).collect();
        let message = SearchRequest {
            query: words.join(" "),
            filter: filter.clone(),
            ..SearchRequest::default()
        };
        let asked = Instant::now();
        let found = client.search(runtime::context::request(context, message)).await?;
        taken.push(asked.elapsed());
        anyhow::ensure!(!found.get_ref().hits.is_empty(), "nothing found");
    }
    let used = cpu()?.saturating_sub(before);
    taken.sort_unstable();
    let at =
        |part: usize| taken[(taken.len() * part / 100).min(taken.len() - 1)].as_secs_f64() * 1e3;
    #[allow(clippy::cast_precision_loss, reason = "a count of queries")]
    let each = used.as_secs_f64() * 1e3 / taken.len() as f64;
    println!("| {name} | {} | {:.1} | {:.1} | {each:.1} |", taken.len(), at(50), at(99));
    Ok(())
}

/// Returns the processor time of this process.
fn cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().context("no fields")?.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// Returns the memory that is resident, in megabytes.
fn resident() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<f64>()? / 1024.0)
}
