//! From the configuration of LiteLLM's proxy: <https://docs.litellm.ai/docs/proxy/config_settings>
//! (read 2026-11-24).

mod aliases;
mod deployments;
mod fallbacks;
mod family;
mod hints;

use anyhow::{anyhow, bail};
use serde_json::{Map, Value};

use self::aliases::aliases;
use self::deployments::deployments;
use self::fallbacks::Fallbacks;
use self::hints::hint;
use super::draft::Draft;
use super::{Imported, at, price, table};

/// What is read of each section.
const SETTINGS: [(&str, &[&str]); 3] = [
    ("general_settings", &[]),
    ("litellm_settings", &["default_fallbacks", "fallbacks", "request_timeout"]),
    ("router_settings", &["default_fallbacks", "fallbacks", "model_group_alias", "timeout"]),
];

/// Our settings, and what of LiteLLM's they do not hold.
///
/// # Errors
/// If `text` is no YAML, or is not a configuration of LiteLLM.
pub(super) fn import(text: &str) -> anyhow::Result<Imported> {
    let root = parse(text)?;
    if !root.contains_key("model_list") {
        bail!("has no model_list: is it LiteLLM's configuration?");
    }
    let mut draft = Draft::default();
    let groups = deployments(&root, &mut draft);
    let fallbacks = Fallbacks::read(&root, &groups, &mut draft);
    for group in &groups {
        draft.route(&group.name, fallbacks.follow(&groups, &group.name));
    }
    aliases(&root, &mut draft);
    timeouts(&root, &mut draft);
    rest(&root, &mut draft);
    Ok(draft.finish("litellm"))
}

fn parse(text: &str) -> anyhow::Result<Map<String, Value>> {
    let options = serde_saphyr::options! {
        // Snippets would show what stands in the file.
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: 64 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    };
    let root = serde_saphyr::from_str_with_options(text, options).map_err(|fault| {
        let fault = fault.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        anyhow!("not YAML that can be read: {}", fault.lines().next().unwrap_or_default())
    })?;
    match root {
        Value::Object(root) => Ok(root),
        _ => bail!("is not a mapping of settings"),
    }
}

fn timeouts(root: &Map<String, Value>, draft: &mut Draft) {
    // The router's own comes last, and takes the place of the other.
    for (section, field) in
        [("litellm_settings", "request_timeout"), ("router_settings", "timeout")]
    {
        let Some((_, value)) = table(root, section).find(|(key, _)| *key == field) else {
            continue;
        };
        // Seconds with nine places are as exact as dollars.
        let milliseconds = price::exact(value, 3).map(|exact| exact.nanos() / 1_000_000_000);
        match milliseconds.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0) {
            Some(milliseconds) => {
                draft.timeout("total_ms", milliseconds);
                // An answer that is no stream begins when it is whole, so it may take as long.
                draft.timeout("first_token_ms", milliseconds);
                if milliseconds > gateway::Config::default().request_timeout_ms {
                    draft.leave(at(section, field), "gateway.request_timeout_ms ends it sooner");
                }
            }
            None if value.is_null() => {}
            None => draft.leave(at(section, field), "not a number of seconds"),
        }
    }
}

/// Notes what nothing else has read.
fn rest(root: &Map<String, Value>, draft: &mut Draft) {
    for (section, value) in root.iter().filter(|(section, _)| *section != "model_list") {
        let Some((_, known)) = SETTINGS.iter().find(|(known, _)| known == section) else {
            draft.leave(at("", section), hint(section));
            continue;
        };
        if !value.is_object() && !value.is_null() {
            draft.leave(section, "not a mapping");
        }
        for (field, value) in table(root, section) {
            if section == "general_settings" && field == "master_key" {
                draft.client_keys = true;
            }
            if !known.contains(&field.as_str()) && !value.is_null() {
                draft.leave(at(section, field), hint(field));
            }
        }
    }
    if root.get("model_list").is_some_and(|list| !list.is_array()) {
        draft.leave("model_list", "not a list");
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{accepted, why};
    use super::hints::NOTHING;
    use super::*;

    /// Everything that we have, with prices, under one name and in turn.
    const TEAM: &str = r#"
defaults: &cloud
  input_cost_per_token: 0.00000015
  output_cost_per_token: 6e-7
model_list:
  - model_name: smart
    litellm_params:
      model: openai/gpt-4o-mini
      api_key: os.environ/TEAM_OPENAI_KEY
      <<: *cloud
      cache_read_input_token_cost: "7.5e-8"
      max_tokens: 1000
      order: 2
  - model_name: smart
    litellm_params:
      model: anthropic/claude-haiku-4-5
      api_base: https://api.anthropic.com
      order: 1
    model_info:
      id: haiku
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000005
      cache_creation_input_token_cost: 0.00000125
  - model_name: here.small
    litellm_params: {model: ollama_chat/llama3.2:3b, api_base: "http://localhost:11434"}
  - model_name: wide
    litellm_params: {model: fireworks_ai/llama-v3p3-70b-instruct, <<: *cloud}
  - model_name: wide
    litellm_params: {model: together_ai/meta/llama-70b, <<: *cloud}
  - model_name: wide
    litellm_params: {model: gemini/gemini-2.5-flash, <<: *cloud}
  - model_name: wide
    litellm_params: {model: hosted_vllm/qwen, api_base: "http://127.0.0.1:8000/v1"}
router_settings:
  fallbacks: [{wide: [smart]}, {smart: [short]}, {"*": [wide]}]
  model_group_alias: {short: here.small, quick: {model: wide, hidden: true}, gone: nowhere}
  timeout: 45.5
litellm_settings:
  request_timeout: 600
  cache: true
general_settings:
  master_key: sk-hidden
  database_url: postgresql://me:hidden@db/litellm
"#;

    pub(super) fn routes(config: &crate::node::Config, name: &str) -> Vec<String> {
        config.router.routes[name].clone()
    }

    #[tokio::test]
    async fn a_team_configuration_becomes_ours() {
        let imported = import(TEAM).unwrap();
        let config = accepted(&imported).await;
        let haiku = "anthropic/claude-haiku-4-5";
        let (mini, small) = ("openai/gpt-4o-mini", "ollama/llama3.2:3b");
        let wide = [
            "fireworks/accounts/fireworks/models/llama-v3p3-70b-instruct",
            "together/meta/llama-70b",
            "gemini/gemini-2.5-flash",
            "vllm/qwen",
        ];
        assert_eq!(
            routes(&config, "smart"),
            [haiku, mini, small, wide[0], wide[1], wide[2], wide[3]]
        );
        let all = [wide.as_slice(), &[haiku, mini, small]].concat();
        assert_eq!(routes(&config, "wide"), all, "fallbacks of fallbacks");
        assert_eq!(routes(&config, "quick"), all);
        assert_eq!(routes(&config, "short"), routes(&config, "here.small"));
        assert_eq!(routes(&config, "auto")[..2], [small, "vllm/qwen"], "local ones first");
        let tiers = |name: &str| config.router.providers[name].tier;
        assert_eq!(["openai", "anthropic", "gemini"].map(tiers), [3; 3]);
        assert_eq!(["fireworks", "together", "ollama", "vllm"].map(tiers), [1, 1, 0, 0]);
        let mini = &config.router.providers["openai"].models[0];
        assert_eq!(mini.input_usd_per_million.as_deref(), Some("0.15"));
        assert_eq!(mini.output_usd_per_million.as_deref(), Some("0.60"));
        assert_eq!(mini.cached_input_usd_per_million.as_deref(), Some("0.075"));
        assert_eq!(mini.max_output_tokens, 1000);
        let haiku = &config.router.providers["anthropic"].models[0];
        assert_eq!(haiku.cache_write_usd_per_million.as_deref(), Some("1.25"));
        assert_eq!(config.router.providers["anthropic"].base_url, "https://api.anthropic.com/v1");
        assert_eq!(config.router.timeouts.total_ms, 45_500, "the router's word counts");
        let key = "BATON_ROUTER__PROVIDERS__OPENAI__API_KEY";
        assert!(imported.config.contains(&format!("# Key: {key}, which was TEAM_OPENAI_KEY.")));
        assert_eq!(
            why(&imported, "model_list[0].litellm_params.api_key"),
            format!("set {key} to what TEAM_OPENAI_KEY has")
        );
        assert_eq!(why(&imported, "defaults"), NOTHING);
        assert_eq!(why(&imported, "litellm_settings.cache"), hint("cache"));
        assert_eq!(why(&imported, "general_settings.database_url"), hint("database_url"));
        assert!(imported.config.contains("# [gateway.keys.main]"), "for the master key");
        why(&imported, "router_settings.model_group_alias.quick.hidden");
        why(&imported, "router_settings.model_group_alias.gone");
        assert_eq!(imported.left_out.len(), 8, "{:#?}", imported.left_out);
    }

    #[tokio::test]
    async fn no_secret_comes_out() {
        let imported = import(
            r#"
model_list:
  - model_name: a
    litellm_params:
      model: openai/m
      api_key: sk-hidden-1
      api_base: https://me:hidden-2@example.com/v1?key=hidden-3
      extra_headers: {Authorization: Bearer hidden-4}
  - model_name: a
    litellm_params: {model: openai/m, api_key: sk-hidden-5}
  - model_name: a
    litellm_params: {model: openai/m, api_key: os.environ/not-a-name-hidden-6}
  - model_name: a
    litellm_params: {model: openai/m, api_key: 424242424242}
  - model_name: c
    litellm_params: {model: openai/m, api_base: "hidden-10", rpm: "hidden-11", max_tokens: "hidden-12"}
    model_info: {input_cost_per_token: hidden-13}
general_settings: {master_key: sk-hidden-7}
litellm_settings: {cache_params: {password: hidden-8}, request_timeout: hidden-14}
environment_variables: {OPENAI_API_KEY: sk-hidden-9}
"#,
        )
        .unwrap();
        let all = serde_json::to_string(&imported).unwrap();
        assert!(!all.contains("hidden") && !all.contains("4242"), "{all}");
        let config = accepted(&imported).await;
        assert_eq!(config.router.providers.len(), 4, "a key is a provider");
        assert_eq!(routes(&config, "a"), ["openai/m", "openai_2/m", "openai_3/m", "openai_4/m"]);
        let told = why(&imported, "model_list[1].litellm_params.api_key");
        assert_eq!(told, "secrets are not copied: set BATON_ROUTER__PROVIDERS__OPENAI_2__API_KEY");
        why(&imported, "model_list[0].litellm_params.extra_headers");
        why(&imported, "environment_variables");
    }

    #[tokio::test]
    async fn names_that_need_quotes_are_kept() {
        let imported = import(
            r#"model_list: [{model_name: "a \"b\".c\n[x]\u007f", litellm_params: {model: 'ollama/m"\[y]'}}]"#,
        )
        .unwrap();
        let config = accepted(&imported).await;
        assert_eq!(routes(&config, "a \"b\".c\n[x]\u{7f}"), ["ollama/m\"\\[y]"]);
    }

    #[test]
    fn a_file_that_is_none_is_told_in_one_line_without_its_text() {
        let mut bomb = "a0: &a0 [hidden, hidden]\n".to_owned();
        for level in 1..30 {
            let below = level - 1;
            bomb.push_str(&format!("a{level}: &a{level} [*a{below}, *a{below}]\n"));
        }
        for (text, told) in [
            ("", "is not a mapping of settings"),
            ("- hidden", "is not a mapping of settings"),
            ("hidden", "is not a mapping of settings"),
            ("other: hidden", "has no model_list: is it LiteLLM's configuration?"),
            ("a: 'hidden", "not YAML that can be read: "),
            ("a: {b: hidden", "not YAML that can be read: "),
            ("a: 1\na: hidden", "not YAML that can be read: "),
            ("a: *hid", "not YAML that can be read: "),
            ("a: 1\n---\nb: hidden", "not YAML that can be read: "),
            (&bomb, "not YAML that can be read: "),
            (&"[".repeat(100_000), "not YAML that can be read: "),
            ("a: &a [*a]\n", "not YAML that can be read: "),
        ] {
            let fault = format!("{:#}", import(text).unwrap_err());
            assert!(fault.starts_with(told), "{fault}");
            assert!(!fault.contains("hidden") && fault.lines().count() == 1, "{fault}");
        }
    }
}
