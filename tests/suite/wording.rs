//! Answers that are given again to a question in other words.

use std::time::{Duration, Instant};

use journeys::{Shape, System, conversation, priced};
use reqwest::Response;
use serde_json::{Value, json};
use testkit::provider::Provider;

const RESET: &str = "How do I reset my password?";
/// The same in other words.
const FORGOT: &str = "I forgot what I sign in with and need something new";
/// The same words but for one that turns it.
const NEVER: &str = "How do I never reset my password?";
const WEATHER: &str = "Is it warm outside?";

/// A system whose questions are embedded by a provider of their own, at $0.001 each.
struct Asked {
    system: System,
    chat: Provider,
    vectors: Provider,
}

impl Asked {
    async fn start(shape: Shape, more: &str) -> Self {
        let (chat, vectors) = (Provider::start().await.unwrap(), Provider::start().await.unwrap());
        for (text, vector) in
            [(RESET, [1.0, 0.0]), (FORGOT, [1.0, 0.1]), (NEVER, [1.0, 0.0]), (WEATHER, [0.0, 1.0])]
        {
            vectors.embed_as(text, Some(vector));
        }
        let settings = priced(&chat.url).replace("tier = 1", "tier = 0")
            + &embedder(&vectors.url)
            + more
            + "[router.cache]\nmode = 'always'\n\
               [router.cache.semantic]\nroutes = ['m']\nembeddings = 'm-embed'\n";
        let system = System::start(shape, &settings).await.unwrap();
        Self { system, chat, vectors }
    }

    /// Asks; returns what the cache had, and the answer.
    async fn ask(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &Value,
    ) -> (String, String) {
        let url = format!("{}{path}", self.system.url);
        let mut request = self.system.client().post(url).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = request.send().await.unwrap();
        let (kept, near) = (header(&reply, "x-baton-cache"), header(&reply, "x-baton-similarity"));
        // The cosine of the two.
        assert_eq!(near, if kept == "semantic" { "0.9950" } else { "" });
        (kept, reply.text().await.unwrap())
    }

    /// As [`Asked::ask`], in chat completions; returns what the cache had.
    async fn chat(&self, headers: &[(&'static str, &str)], asked: &str) -> String {
        self.ask("/v1/chat/completions", headers, &conversation(asked, false)).await.0
    }
}

fn embedder(url: &str) -> String {
    format!(
        "[router.providers.vectors]\nkind = 'openai'\nbase_url = '{url}/v1'\ntier = 0\n\
         models = [{{ name = 'm-embed', embeddings = true, input_usd_per_million = '1' }}]\n"
    )
}

fn header(reply: &Response, name: &str) -> String {
    let value = reply.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// Returns a request to model `m`, as the API at `path` has it.
fn question(path: &str, asked: &str, stream: bool) -> Value {
    match path {
        // One that is kept is its own, and not given again.
        "/v1/responses" => {
            json!({ "model": "m", "input": asked, "stream": stream, "store": false })
        }
        "/v1/messages" => {
            let mut body = conversation(asked, stream);
            body["max_tokens"] = 9.into();
            body
        }
        _ => conversation(asked, stream),
    }
}

/// Returns what calls cost by model, once there are rows of so many.
async fn calls(system: &System, calls: u64) -> Value {
    let told = async {
        loop {
            let (_, costs) = system.get("/api/v1/costs?group_by=model").await.unwrap();
            let rows = costs["costs"].as_array().unwrap();
            if rows.iter().filter_map(|row| row["calls"].as_u64()).sum::<u64>() == calls {
                return costs;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.unwrap()
}

#[tokio::test]
async fn a_question_in_other_words_has_the_same_answer_in_every_dialect_and_form() {
    for shape in Shape::ALL {
        let asked = Asked::start(shape, "").await;
        for path in ["/v1/chat/completions", "/v1/messages", "/v1/responses"] {
            for stream in [false, true] {
                let ask =
                    async |text: &str| asked.ask(path, &[], &question(path, text, stream)).await;
                let (first, answer) = ask(RESET).await;
                assert_eq!(first, "miss", "{path} {stream} {answer}");
                let before = asked.chat.requests();
                for _ in 0..2 {
                    // Every time: it is not kept as an answer of its own, to which others are near.
                    assert_eq!(
                        ask(FORGOT).await,
                        ("semantic".to_owned(), answer.clone()),
                        "{path}"
                    );
                }
                assert_eq!(ask(RESET).await, ("hit".to_owned(), answer), "{path}");
                assert_eq!(asked.chat.requests(), before);
                assert_eq!(ask(NEVER).await.0, "miss", "{path}");
                assert_eq!(ask(WEATHER).await.0, "miss", "{path}");
            }
        }
        // A row for each answer, kept or not, and one for each vector; those alone cost something.
        let (vectors, models) = (asked.vectors.requests(), asked.chat.requests());
        assert_eq!((vectors, models), (6 * 5, 6 * 3));
        let costs = calls(&asked.system, 6 * 6 + 6 * 5).await;
        let spent = asked.system.spent("local").await.unwrap();
        let wanted = 0.001 * vectors as f64 + 0.004 * models as f64;
        assert!((spent - wanted).abs() < 1e-9, "{spent} {wanted} {costs}");
        let mut told = String::new();
        for process in &asked.system.processes {
            let url = format!("{}/metrics", process.operations);
            let metrics = asked.system.client().get(url).send().await.unwrap();
            told += &metrics.text().await.unwrap();
        }
        for (outcome, count) in [("semantic", 12), ("hit", 6), ("miss", 18)] {
            let line = format!("baton_cache_total{{outcome=\"{outcome}\"}} {count}\n");
            assert!(told.contains(&line), "{line}{told}");
        }
    }
}

#[tokio::test]
async fn what_differs_in_more_than_its_question_is_asked_anew() {
    let key = |name: &str, tenant: &str| {
        format!(
            "[gateway.keys.{name}]\nsecret = 'sk-{name}-0123456789abcdef'\ntenant = '{tenant}'\nuser = '{name}'\n"
        )
    };
    for shape in Shape::ALL {
        let keys = [key("one", "t"), key("two", "t"), key("other", "s")].concat();
        let asked = Asked::start(shape, &keys).await;
        let (private, off) = (("x-baton-privacy", "private"), ("x-baton-cache", "off"));
        let one = ("authorization", "Bearer sk-one-0123456789abcdef");
        let two = ("authorization", "Bearer sk-two-0123456789abcdef");
        let other = ("authorization", "Bearer sk-other-0123456789abcdef");
        assert_eq!(asked.chat(&[one], RESET).await, "miss");
        assert_eq!(asked.chat(&[other], FORGOT).await, "miss", "tenants share nothing");
        assert_eq!(asked.chat(&[one, private], FORGOT).await, "miss", "nor private calls");
        assert_eq!(asked.chat(&[one, private], RESET).await, "semantic", "but among themselves");
        let before = asked.vectors.requests();
        assert_eq!(asked.chat(&[one, off], FORGOT).await, "");
        assert_eq!(asked.vectors.requests(), before, "who wants no kept answer buys no vector");
        for (field, value) in [
            ("temperature", json!(0.5)),
            ("response_format", json!({ "type": "json_object" })),
            ("tools", json!([{ "type": "function", "function": { "name": "add" } }])),
            (
                "messages",
                json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": FORGOT }]),
            ),
            (
                "messages",
                json!([{ "role": "user", "content": [{ "type": "text", "text": FORGOT }] }]),
            ),
        ] {
            let mut body = conversation(FORGOT, false);
            body[field] = value;
            let (kept, answer) = asked.ask("/v1/chat/completions", &[one], &body).await;
            assert_eq!(kept, "miss", "{body} {answer}");
        }
        assert_eq!(asked.chat(&[two], FORGOT).await, "semantic", "a tenant's users share");
    }
}

#[tokio::test]
async fn a_corpus_that_changed_is_read_anew() {
    const GUIDE: &str = "# Accounts\n\nWhoever forgot a password needs a reset of it to sign in.\n";
    for shape in Shape::ALL {
        let asked = Asked::start(shape, "").await;
        let ask = async |question: &str| {
            let body = json!({ "question": question, "route": "m" });
            let (status, answer) = asked.system.post("/api/v1/ask", &body).await.unwrap();
            assert!(status.is_success(), "{answer}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            // Its "pong" is in no document, and so no answer; what matters here is whether it was asked.
            assert_eq!(answer["provider"], "mock", "{answer}");
            (answer["cache"].as_str().unwrap().to_owned(), answer["similarity"].as_f64())
        };
        let is = |cache: &str| (cache.to_owned(), None);
        asked.system.upload("guide.md", GUIDE).await.unwrap();
        assert_eq!(ask(RESET).await, is("miss"));
        assert_eq!(ask(RESET).await, is("hit"));
        let (cache, similarity) = ask(FORGOT).await;
        assert!(cache == "semantic" && similarity > Some(0.99), "the same passages: {cache}");
        asked.system.upload("guide.md", &GUIDE.replace("Whoever", "Nobody who")).await.unwrap();
        assert_eq!(ask(FORGOT).await, is("miss"), "another version of them");
    }
}

#[tokio::test]
async fn a_question_that_is_not_embedded_in_time_is_answered_all_the_same() {
    for shape in Shape::ALL {
        let asked = Asked::start(shape, "").await;
        asked.vectors.embed_as(RESET, None);
        let asked_at = Instant::now();
        assert_eq!(asked.chat(&[], RESET).await, "miss");
        assert_eq!(asked.chat(&[], FORGOT).await, "miss", "it was not noted");
        assert!(asked_at.elapsed() < Duration::from_secs(10), "{:?}", asked_at.elapsed());
        assert_eq!(asked.chat(&[], RESET).await, "hit", "the same call is found without a vector");

        // Nobody listens where questions are embedded.
        let settings = priced(&asked.chat.url)
            + &embedder("http://127.0.0.1:1")
            + "[router.cache]\nmode = 'always'\n\
               [router.cache.semantic]\nroutes = ['m']\nembeddings = 'm-embed'\n";
        let system = System::start(shape, &settings).await.unwrap();
        let asked = Asked { system, ..asked };
        for (question, wanted) in [(RESET, "miss"), (FORGOT, "miss"), (RESET, "hit")] {
            assert_eq!(asked.chat(&[], question).await, wanted);
        }
    }
}

#[tokio::test]
async fn no_more_than_so_many_vectors_are_waited_for_at_once() {
    for shape in Shape::ALL {
        let asked = Asked::start(shape, "").await;
        let questions: Vec<_> = (0..80).map(|number| format!("What is number {number}?")).collect();
        questions.iter().for_each(|question| asked.vectors.embed_as(question, None));
        let all = futures::future::join_all(questions.iter().map(|one| asked.chat(&[], one))).await;
        assert!(all.iter().all(|kept| kept == "miss"), "{all:?}");
        assert_eq!((asked.chat.requests(), asked.vectors.requests()), (80, 64));
    }
}

#[tokio::test]
async fn a_private_question_is_embedded_here_or_not_at_all() {
    let vectors = Provider::start().await.unwrap();
    let chat = Provider::start().await.unwrap();
    for (text, vector) in [(RESET, [1.0, 0.0]), (FORGOT, [1.0, 0.1])] {
        vectors.embed_as(text, Some(vector));
    }
    for shape in Shape::ALL {
        let settings = priced(&chat.url).replace("tier = 1", "tier = 0")
            + &embedder(&vectors.url).replace("tier = 0", "tier = 1")
            + "[router.cache]\nmode = 'always'\n\
               [router.cache.semantic]\nroutes = ['m']\nembeddings = 'm-embed'\n";
        let system = System::start(shape, &settings).await.unwrap();
        let asked = Asked { system, chat: chat.clone(), vectors: vectors.clone() };
        let (private, before) = ([("x-baton-privacy", "private")], vectors.requests());
        assert_eq!(asked.chat(&private, RESET).await, "miss");
        assert_eq!(asked.chat(&private, FORGOT).await, "miss");
        assert_eq!(vectors.requests(), before, "it leaves for no vector");
        assert_eq!(asked.chat(&[], RESET).await, "miss");
        assert_eq!(asked.chat(&[], FORGOT).await, "semantic");
        // Rows come in their order: those of the private calls are there.
        calls(&asked.system, 2 + 2 + 2).await;
        let (_, audit) = asked.system.get("/api/v1/audit").await.unwrap();
        assert_eq!(audit["records"].as_array().unwrap().len(), 2, "no call was refused: {audit}");
    }
}

#[tokio::test]
async fn what_could_answer_no_question_is_refused_at_start() {
    let settings = priced("http://127.0.0.1:1") + &embedder("http://127.0.0.1:1");
    for (cache, fault) in [
        ("routes = ['m']\n", "\"\" embeds nothing"),
        ("routes = ['m']\nembeddings = 'm'\n", "\"m\" embeds nothing"),
        ("routes = ['n']\nembeddings = 'm-embed'\n", "no answers of \"n\" are kept"),
        ("routes = ['fast']\nembeddings = 'm-embed'\n", "no answers of \"fast\" are kept"),
        ("routes = ['m']\nembeddings = 'm-embed'\nthreshold = 0.2\n", "0.2 is not 0.5 to 1"),
    ] {
        let settings = format!(
            "{settings}[router.cache]\nmode = 'always'\nroutes = {{ fast = 'off' }}\n\
             [router.cache.semantic]\n{cache}"
        );
        let refused = System::start(Shape::One, &settings).await.unwrap_err();
        assert!(format!("{refused:#}").contains(fault), "{refused:#}");
    }
}
