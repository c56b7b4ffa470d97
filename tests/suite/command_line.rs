//! `baton` as a person or a script runs it.

use std::path::Path;

use journeys::{Shape, System, priced};
use serde_json::{Value, json};
use testkit::process::program;
use testkit::provider::Provider;
use testkit::web::Web;
use tokio::process::Command;

struct Ended {
    code: i32,
    output: String,
    errors: String,
}

async fn baton(data: &Path, arguments: &[&str]) -> Ended {
    let output = Command::new(program("baton").unwrap())
        .args(arguments)
        .current_dir(data)
        .env("BATON_LOCAL_MODELS__OLLAMA", "")
        .env("BATON_LOCAL_MODELS__JAN", "")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    Ended {
        code: output.status.code().unwrap(),
        output: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn a_folder_is_asked_and_not_read_twice() {
    let place = tempfile::tempdir().unwrap();
    let docs = place.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(docs.join("a.md"), "# Guide\n\nTo roll back a release, run the script.\n")
        .unwrap();
    std::fs::write(docs.join("bad.txt"), [0xff, 0xfe, 0x00]).unwrap();
    let question = "How do I roll back a release?";
    let ask = ["ask", "--docs", "docs", "--json", question];
    let first = baton(place.path(), &ask).await;
    assert_eq!(first.code, 0, "{}", first.errors);
    assert!(first.errors.contains("docs: 1 files ingested, 0 unchanged"), "{}", first.errors);
    assert!(first.errors.contains("refused docs/bad.txt"), "{}", first.errors);
    let answer: Value = serde_json::from_str(&first.output).unwrap();
    assert_eq!(answer["citations"][0]["source"], "docs/a.md");
    assert_eq!(answer["citations"][0]["quote"], "To roll back a release, run the script.");
    let named = ["answer", "confidence", "usage", "cost_usd", "route", "provider", "run_id"];
    assert!(named.iter().all(|name| !answer[*name].is_null()), "{answer}");
    let (start, end) = (&answer["citations"][0]["start"], &answer["citations"][0]["end"]);
    assert_eq!(end.as_u64().unwrap() - start.as_u64().unwrap(), 39, "in characters");

    let again = baton(place.path(), &["ask", "--docs", "docs", question]).await;
    assert!(again.errors.contains("docs: 0 files ingested, 1 unchanged"), "{}", again.errors);
    assert!(again.output.contains("[1] docs/a.md:3  Guide"), "{}", again.output);
    assert!(again.output.contains("provider extractive"), "{}", again.output);
    assert!(again.output.contains("No language model is connected"), "{}", again.output);
}

#[tokio::test]
async fn judged_queries_are_measured() {
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(place.path().join(name), text).unwrap();
    let corpus =
        [("a", "How to roll back a release."), ("b", "Who pays for what."), ("c", "Keys.")];
    let line = |(id, text)| json!({ "_id": id, "title": "", "text": text }).to_string();
    write("corpus.jsonl", &corpus.map(line).join("\n"));
    write("queries.jsonl", r#"{"_id":"q","text":"rolling back releases"}"#);
    write("qrels.tsv", "query-id\tcorpus-id\tscore\nq\ta\t1\n");
    let done = baton(place.path(), &["eval", ".", "--json"]).await;
    assert_eq!(done.code, 0, "{}", done.errors);
    let report: Value = serde_json::from_str(&done.output).unwrap();
    let default = &report["configurations"][0];
    assert_eq!((&default["name"], &default["ndcg@10"]), (&json!("words"), &json!(1.0)));
    assert_eq!((&default["recall@100"], &default["mrr@10"]), (&json!(1.0), &json!(1.0)));
    let shown = baton(place.path(), &["eval", "."]).await.output;
    assert!(shown.starts_with("3 documents in 3 passages, 1 queries\n"), "{shown}");
    write("qrels.tsv", "query-id\tcorpus-id\tscore\nq\td\t1\n");
    let refused = baton(place.path(), &["eval", "."]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.errors.contains("./qrels.tsv: line 2: document \"d\" is unknown"));
    write("qrels.tsv", "query-id\tcorpus-id\tscore\nq\ta\t1\n");
    let refused = baton(place.path(), &["eval", ".", "--model", "."]).await;
    assert_eq!(refused.code, 1);
    let missing = "model .: has no config.json, tokenizer.json, model.safetensors, modules.json";
    assert!(refused.errors.contains(missing), "{}", refused.errors);
    let refused = baton(place.path(), &["eval", ".", "--qdrant", "http://127.0.0.1:1"]).await;
    assert_eq!(refused.code, 4, "{}", refused.errors);
    assert!(refused.errors.contains("qdrant: "), "{}", refused.errors);
}

#[tokio::test]
async fn a_failure_is_one_clear_line_and_its_own_exit_code() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("empty")).unwrap();
    let provider = Provider::start().await.unwrap();
    let settings = priced(&provider.url);
    std::fs::write(place.path().join("priced.toml"), settings).unwrap();
    let system = System::start(Shape::One, "").await.unwrap();
    let taken = system.url.trim_start_matches("http://");
    for (arguments, code, told) in [
        (vec!["ask", "--docs", "none", "q"], 1, "none is not a folder"),
        (
            vec!["ask", "--docs", "empty", "q"],
            1,
            "empty holds no file that can be read, such as Markdown",
        ),
        (vec!["ask", "--config", "none.toml", "q"], 1, "none.toml does not exist"),
        (vec!["import", "litellm", "none.yaml"], 1, "cannot read none.yaml"),
        (vec!["import", "litellm", "priced.toml"], 1, "priced.toml: not YAML that can be read"),
        (vec!["import", "other", "priced.toml"], 2, "litellm, tensorzero"),
        (vec!["ask"], 2, "<QUESTION>"),
        (vec!["ask", "--colour", "q"], 2, "--colour"),
        (vec!["up", "--listen", "nowhere"], 2, "nowhere"),
        (vec!["up", "--listen", taken], 1, taken),
        (vec!["up", "--listen", "0.0.0.0:0", "--operations", "127.0.0.1:0"], 1, "no key"),
    ] {
        let ended = baton(place.path(), &arguments).await;
        assert_eq!(ended.code, code, "{arguments:?} {}", ended.errors);
        assert!(ended.errors.contains(told), "{arguments:?} {}", ended.errors);
        if code == 1 {
            assert_eq!(ended.errors.trim_end().lines().count(), 1, "{}", ended.errors);
        }
    }
}

#[tokio::test]
async fn what_was_imported_answers() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("docs")).unwrap();
    std::fs::write(place.path().join("docs/a.md"), "Ping is answered by pong.\n").unwrap();
    let provider = Provider::start().await.unwrap();
    let litellm = format!(
        "model_list:\n- model_name: team\n  litellm_params: {{model: openai/m, api_base: {}/v1, rpm: 5}}\n",
        provider.url
    );
    std::fs::write(place.path().join("config.yaml"), litellm).unwrap();
    let import = ["import", "litellm", "config.yaml"];
    let shown = baton(place.path(), &import).await;
    let told = "model_list[0].litellm_params.rpm: no equivalent";
    assert!(shown.code == 0 && shown.errors.starts_with(told), "{}", shown.errors);
    let object = baton(place.path(), &[&import[..], &["--json"]].concat()).await;
    let object: Value = serde_json::from_str(&object.output).unwrap();
    assert_eq!(object["config"], shown.output);
    assert_eq!(object["left_out"][0]["path"], "model_list[0].litellm_params.rpm");
    let written = [&import[..], &["--output", "team.toml"]].concat();
    assert_eq!(baton(place.path(), &written).await.code, 0);
    assert_eq!(baton(place.path(), &written).await.code, 1, "it is there");
    let ask =
        ["ask", "--config", "team.toml", "--docs", "docs", "--route", "team", "--json", "Ping?"];
    let answer = baton(place.path(), &ask).await;
    let answer: Value = serde_json::from_str(&answer.output).unwrap();
    assert_eq!(
        (&answer["route"], &answer["provider"]),
        (&json!("team"), &json!("openai")),
        "{answer}"
    );
}

#[tokio::test]
async fn a_question_that_the_budget_refuses_ends_with_3() {
    let provider = Provider::start().await.unwrap();
    let settings = priced(&provider.url);
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("docs")).unwrap();
    std::fs::write(data.path().join("docs/a.md"), "Ping is answered by pong.\n").unwrap();
    let system = System::start_in(data, Shape::One, &settings).await.unwrap();
    let limit = json!({ "user_id": "local", "period": "daily", "limit": 0.000000001 });
    assert_eq!(system.post("/api/v1/budget/limit", &limit).await.unwrap().0, 201);
    let data = system.kill().await.unwrap();
    let arguments = ["ask", "--config", "baton.toml", "--docs", "docs", "--route", "m", "Ping?"];
    let ended = baton(data.path(), &arguments).await;
    assert_eq!(ended.code, 3, "{} {}", ended.output, ended.errors);
    assert!(ended.errors.contains("budget exceeded"), "{}", ended.errors);
}

#[tokio::test]
async fn a_folder_is_sent_to_a_running_system_and_searched_there() {
    for shape in Shape::ALL {
        let system = System::start(shape, "").await.unwrap();
        let place = tempfile::tempdir().unwrap();
        let source = "/// Rolls a release back.\nfn roll_back() {}\n\nfn other() {}\n";
        for (name, content) in [
            (".gitignore", "secret.md\n".as_bytes()),
            ("secret.md", b"a release"),
            ("deploy.rs", source.as_bytes()),
            ("prices.csv", b"fruit,price\npear,3\n"),
            ("bad.txt", &[0xff, 0xfe, 0x00]),
        ] {
            std::fs::write(place.path().join(name), content).unwrap();
        }
        let ingest = ["ingest", ".", "--url", &system.url];
        let first = baton(place.path(), &ingest).await;
        assert_eq!(first.code, 1, "one was refused: {}", first.errors);
        assert!(
            first.output.contains("2 files ingested, 0 unchanged, 1 refused"),
            "{}",
            first.output
        );
        assert!(first.errors.contains("refused ./bad.txt: "), "{}", first.errors);
        std::fs::remove_file(place.path().join("bad.txt")).unwrap();
        let again = baton(place.path(), &[&ingest[..], &["--json"]].concat()).await;
        assert_eq!(again.code, 0, "{}", again.errors);
        let told: Value = serde_json::from_str(&again.output).unwrap();
        assert_eq!(told, json!({ "changed": 0, "unchanged": 2, "refused": [] }));

        let found =
            baton(place.path(), &["search", "roll back a release", "--url", &system.url]).await;
        assert!(found.output.starts_with("1. ./deploy.rs:1  roll_back  ("), "{}", found.output);
        let found = baton(place.path(), &["search", "pear price", "--url", &system.url]).await;
        assert!(found.output.contains("1. ./prices.csv:2  fruit, price  ("), "{}", found.output);

        let office = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/retriever/tests/documents");
        let office = baton(place.path(), &["ingest", office, "--url", &system.url]).await;
        assert!(
            office.output.contains("6 files ingested, 0 unchanged, 0 refused"),
            "{}",
            office.errors
        );
        let folder = place.path();
        for (query, place) in [
            ("channel seventeen", "/manual.pdf p. 2  Station manual › Radio  ("),
            ("green switch price", "/stock.xlsx:4  Stock › Part, Count, Price, Ordered, Note  ("),
        ] {
            let found = baton(folder, &["search", query, "--url", &system.url]).await;
            assert!(found.output.lines().next().unwrap().contains(place), "{}", found.output);
        }
        let none = baton(place.path(), &["ingest", ".", "--url", "http://127.0.0.1:1"]).await;
        assert_eq!(none.code, 4, "{}", none.errors);
    }
}

#[tokio::test]
async fn an_address_is_fetched_by_the_running_system() {
    let web = Web::start().await.unwrap();
    web.write("/guide", "text/html", "<h1>Guide</h1><p>Turn the valve.</p>");
    let settings = "[retriever.fetch]\nlocal_networks = ['127.0.0.1/32']\n";
    let system = System::start(Shape::One, settings).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let address = format!("{}/guide", web.url);
    let ingest = ["ingest", &address, "--collection", "site", "--url", &system.url];
    let done = baton(place.path(), &ingest).await;
    assert_eq!((done.code, done.output), (0, format!("{address} ingested\n")), "{}", done.errors);
    let search = ["search", "valve", "--collection", "site", "--url", &system.url];
    let found = baton(place.path(), &search).await;
    assert!(found.output.starts_with(&format!("1. {address}:1  Guide  (")), "{}", found.output);
    let shown = baton(place.path(), &[&ingest[..], &["--json"]].concat()).await;
    let shown: Value = serde_json::from_str(&shown.output).unwrap();
    assert_eq!((&shown["state"], &shown["source"]), (&json!("done"), &json!(address)));
    let missing = format!("{}/none", web.url);
    let refused = baton(place.path(), &["ingest", &missing, "--url", &system.url]).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused.errors.contains(&format!("{missing} answered 404 Not Found")),
        "{}",
        refused.errors
    );
    let refused = baton(place.path(), &["ingest", "ftp://x/y", "--url", &system.url]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.errors.contains("only http and https are"), "{}", refused.errors);
}
