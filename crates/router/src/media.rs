//! What a request holds besides text: pictures, documents, recordings. Pure.

use serde_json::Value;

/// The most tokens of a document or recording that stands elsewhere: nobody here knows its length.
pub(crate) const ELSEWHERE: u64 = 200_000;

/// The most tokens of a picture by a beginning or part of a model's name, seen whole and at low detail;
/// larger ones are cut down by their providers, as published (read November 2026):
/// <https://platform.openai.com/docs/guides/images-vision#calculating-costs>,
/// <https://docs.anthropic.com/en/docs/build-with-claude/vision#calculate-image-costs>,
/// <https://ai.google.dev/gemini-api/docs/tokens#multimodal-tokens>.
const IMAGES: [(&str, u64, u64); 8] = [
    // A base of 2833 and eight tiles of 5667.
    ("gpt-4o-mini", 48_169, 2_833),
    // At most eight tiles of 170, or 1536 patches, some of which count two and a half times.
    ("gpt-", 5_000, 5_000),
    ("chatgpt-", 5_000, 5_000),
    ("o1", 5_000, 5_000),
    ("o3", 5_000, 5_000),
    ("o4", 5_000, 5_000),
    // Its longer side is at most 2576 pixels, 750 to a token.
    ("claude-", 5_000, 5_000),
    // Sixteen tiles of 258.
    ("gemini-", 5_000, 5_000),
];

/// The most tokens of a picture that any other known model makes: Qwen's of 28 pixels squared.
const IMAGE: u64 = 16_384;

/// Returns the most tokens that a model makes of a picture, at low detail or as it is.
pub(crate) fn image_tokens(model: &str, low: bool) -> u64 {
    // A name may say its vendor first.
    let name = model.rsplit('/').next().unwrap_or(model);
    let known = IMAGES.iter().find(|(beginning, ..)| name.starts_with(beginning));
    known.map_or(IMAGE, |(_, whole, little)| if low { *little } else { *whole })
}

/// What a part of a message is, if it is not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    /// Seen at low detail, or as it is.
    Image {
        low: bool,
    },
    File,
}

impl Media {
    pub(crate) fn of(part: &Value) -> Option<Self> {
        match part["type"].as_str()? {
            "image_url" | "input_image" | "image" => {
                let detail = part["detail"].as_str().or(part["image_url"]["detail"].as_str());
                Some(Self::Image { low: detail == Some("low") })
            }
            "file" | "input_file" | "document" | "input_audio" | "audio" | "video_url" => {
                Some(Self::File)
            }
            _ => None,
        }
    }
}

/// Where the data of a part may stand: what is not there stands elsewhere.
const PLACES: [&str; 10] = [
    "/source/data",
    "/source/url",
    "/image_url/url",
    "/image_url",
    "/file/file_data",
    "/file_data",
    "/file_url",
    "/input_audio/data",
    "/audio/data",
    "/video_url/url",
];

/// What is known of a part that is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data<'a> {
    /// All of it.
    Here(&'a str),
    /// It consists of text or parts all the same.
    Told,
    /// Its address alone.
    Elsewhere,
}

impl<'a> Data<'a> {
    pub(crate) fn of(part: &'a Value) -> Self {
        if matches!(part["source"]["type"].as_str(), Some("text" | "content")) {
            return Self::Told;
        }
        let texts = PLACES.iter().filter_map(|at| Some((at, part.pointer(at)?.as_str()?)));
        let mut here = texts.filter(|(at, text)| {
            text.starts_with("data:") || (at.ends_with("data") && !is_address(text))
        });
        here.next().map_or(Self::Elsewhere, |(_, data)| Self::Here(data))
    }
}

/// Returns the JSON pointer of the first image in messages that stand at `place`, if there is one.
pub(crate) fn image(place: &str, messages: &[Value]) -> Option<String> {
    first(place, messages, &|part| matches!(Media::of(part), Some(Media::Image { .. })))
}

/// Returns the JSON pointer of the first part that has only the address of what it is.
pub(crate) fn elsewhere(place: &str, messages: &[Value]) -> Option<String> {
    first(place, messages, &|part| Media::of(part).is_some() && has_address(part))
}

/// Returns the JSON pointer of the first part that is wanted, also within the results of tools and
/// within documents.
pub(crate) fn first(
    place: &str,
    messages: &[Value],
    wanted: &dyn Fn(&Value) -> bool,
) -> Option<String> {
    messages.iter().enumerate().find_map(|(at, message)| {
        let rest = within(message, wanted)?;
        Some(format!("{place}/{at}{rest}"))
    })
}

fn within(holder: &Value, wanted: &dyn Fn(&Value) -> bool) -> Option<String> {
    let source = holder.get("source").and_then(|source| source.get("content"));
    let lists = [
        ("/content", holder.get("content")),
        ("/output", holder.get("output")),
        ("/source/content", source),
    ];
    lists.into_iter().find_map(|(name, list)| {
        let mut parts = list?.as_array()?.iter().enumerate();
        parts.find_map(|(at, part)| {
            let rest = within(part, wanted).or_else(|| wanted(part).then(String::new));
            Some(format!("{name}/{at}{}", rest?))
        })
    })
}

fn has_address(value: &Value) -> bool {
    match value {
        Value::String(text) => is_address(text),
        Value::Array(list) => list.iter().any(has_address),
        Value::Object(fields) => fields.values().any(has_address),
        _ => false,
    }
}

fn is_address(text: &str) -> bool {
    let start = text.trim_start().get(..8).unwrap_or(text).to_ascii_lowercase();
    start.contains("://") || start.starts_with("//")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_are_found_wherever_they_stand() {
        let png =
            json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } });
        let far = json!({ "type": "image", "source": { "type": "url", "url": "https://a/b" } });
        let document =
            json!({ "type": "document", "source": { "type": "content", "content": [far] } });
        let result = json!({ "type": "tool_result", "content": [{ "type": "text" }, far] });
        for (part, at_image, at_address) in [
            (json!({ "type": "text", "text": "https://a/b" }), None, None),
            (png, Some(""), None),
            (far.clone(), Some(""), Some("")),
            (result, Some("/content/1"), Some("/content/1")),
            (document, Some("/source/content/0"), Some("/source/content/0")),
        ] {
            let messages = [json!({ "content": "x" }), json!({ "content": [part] })];
            let at = |rest: Option<&str>| rest.map(|rest| format!("/m/1/content/0{rest}"));
            assert_eq!(image("/m", &messages), at(at_image), "{part}");
            assert_eq!(elsewhere("/m", &messages), at(at_address), "{part}");
        }
        let hidden = [json!({ "content": [{ "type": "file", "file": { "pages": [far] } }] })];
        assert_eq!(elsewhere("/m", &hidden).as_deref(), Some("/m/0/content/0"));
        let output = [json!({ "type": "function_call_output", "output": [far] })];
        assert_eq!(image("/input", &output).as_deref(), Some("/input/0/output/0"));
    }

    #[test]
    fn a_private_part_may_have_no_address_where_data_should_stand() {
        let part = json!({ "type": "document", "source": { "data": "HTTPS://a/b" } });
        assert_eq!(Data::of(&part), Data::Elsewhere);
        assert_eq!(
            elsewhere("/m", &[json!({ "content": [part] })]).as_deref(),
            Some("/m/0/content/0")
        );
    }

    #[test]
    fn a_picture_has_as_many_tokens_as_its_model_makes_of_one() {
        assert_eq!(image_tokens("gpt-4o-mini-2024-07-18", false), 48_169);
        assert_eq!(image_tokens("openai/gpt-4o-mini", true), 2_833);
        assert_eq!(image_tokens("gpt-4o", false), 5_000);
        assert_eq!(image_tokens("claude-sonnet-4-5", true), 5_000);
        assert_eq!(image_tokens("Qwen2.5-VL-72B-Instruct", false), IMAGE);
    }
}
