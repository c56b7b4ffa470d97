//! Lines of a batch's output and error files. Pure.

use serde::Serialize;
use serde_json::value::RawValue;
use types::BatchId;

use super::store::Ended;
use crate::Error;

#[derive(Serialize)]
struct Line<'a> {
    id: String,
    custom_id: &'a str,
    response: Option<Response<'a>>,
    error: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Response<'a> {
    status_code: u16,
    request_id: &'a str,
    body: &'a RawValue,
}

/// Returns the id of a batch's request, the same at every attempt.
pub(crate) fn request_name(batch: &BatchId, line: u32) -> String {
    let batch = batch.as_str().trim_start_matches("batch_");
    format!("batch_req_{batch}_{line}")
}

/// Returns the line that tells how a request ended: by an answer, whatever its status, or by an error
/// when it was never asked. The answer's body is in it as it came, but for the ends of lines in it.
pub(crate) fn line(batch: &BatchId, ended: &Ended) -> Result<Vec<u8>, Error> {
    let damaged = |_| Error::Corrupt("answer");
    let mut answer = ended.answer.clone();
    // They stand in no string of JSON.
    for end in answer.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *end = b' ';
    }
    let body: &RawValue = serde_json::from_slice(&answer).map_err(damaged)?;
    let response =
        ended.http.map(|status_code| Response { status_code, request_id: &ended.request_id, body });
    let error = response.is_none().then_some(body);
    let id = request_name(batch, ended.line);
    let line = Line { id, custom_id: &ended.custom_id, response, error };
    let mut line = serde_json::to_vec(&line).map_err(damaged)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(http: Option<u16>, answer: &str) -> Ended {
        Ended {
            line: 7,
            custom_id: "a\n".to_owned(),
            http,
            request_id: "r".to_owned(),
            answer: answer.as_bytes().to_vec(),
        }
    }

    #[test]
    fn an_answer_is_shown_as_it_came() {
        let batch = BatchId::new("batch_0").unwrap();
        let shown = line(&batch, &ended(Some(200), r#"{"b":1,  "a":1.0}"#)).unwrap();
        let wanted = r#"{"id":"batch_req_0_7","custom_id":"a\n","response":{"status_code":200,"request_id":"r","body":{"b":1,  "a":1.0}},"error":null}"#;
        assert_eq!(String::from_utf8(shown).unwrap(), format!("{wanted}\n"));
        let shown = line(&batch, &ended(Some(200), "{\r\n \"b\": 1\n}\n")).unwrap();
        assert_eq!(shown.iter().position(|byte| *byte == b'\n'), Some(shown.len() - 1));
        let shown = line(&batch, &ended(None, r#"{"code":"c"}"#)).unwrap();
        let wanted =
            r#"{"id":"batch_req_0_7","custom_id":"a\n","response":null,"error":{"code":"c"}}"#;
        assert_eq!(String::from_utf8(shown).unwrap(), format!("{wanted}\n"));
    }
}
