//! Log lines in JSON: the fields of an event, and of the span that it happened in.
//!
//! They are written straight. `tracing-subscriber`'s own lines of the same shape make a map of a span's
//! fields, write it, and read it again for each line and each field that is added, which took more than
//! everything else about a log.

use std::fmt::{self, Write};

use serde::de::IgnoredAny;
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes `{"timestamp":…,"level":…,FIELDS,"target":…,"span":{"name":…,FIELDS}}`.
#[derive(Debug)]
pub(crate) struct Json;

impl<S> FormatEvent<S, Self> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Self>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let about = event.metadata();
        line.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut line)?;
        write!(line, "\",\"level\":\"{}\"", about.level())?;
        self.format_fields(line.by_ref(), event)?;
        line.write_str(",\"target\":")?;
        text(&mut line, about.target())?;
        let span =
            event.parent().and_then(|id| context.span(id)).or_else(|| context.lookup_current());
        if let Some(span) = span {
            line.write_str(",\"span\":{\"name\":")?;
            text(&mut line, span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<Self>>() {
                line.write_str(fields)?;
            }
            line.write_char('}')?;
        }
        line.write_str("}\n")
    }
}

impl<'a> FormatFields<'a> for Json {
    /// Writes each field behind a comma.
    fn format_fields<R: RecordFields>(&self, writer: Writer<'a>, fields: R) -> fmt::Result {
        let mut fields_to = Fields { writer, done: Ok(()) };
        fields.record(&mut fields_to);
        fields_to.done
    }

    fn add_fields(
        &self,
        current: &'a mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> fmt::Result {
        // Of a key that is there twice, readers may take either.
        fields.record(&mut Forgets(&mut current.fields));
        self.format_fields(current.as_writer(), fields)
    }
}

/// Takes out of what is written the fields that are said again.
struct Forgets<'a>(&'a mut String);

impl Visit for Forgets<'_> {
    fn record_debug(&mut self, field: &Field, _: &dyn fmt::Debug) {
        // Quotes within a string are written otherwise.
        let key = format!(",\"{}\":", field.name());
        let Some(at) = self.0.find(&key) else { return };
        let value = at + key.len();
        let mut values = serde_json::Deserializer::from_str(&self.0[value..]).into_iter();
        if let Some(Ok(IgnoredAny)) = values.next() {
            let end = value + values.byte_offset();
            self.0.replace_range(at..end, "");
        }
    }
}

struct Fields<'a> {
    writer: Writer<'a>,
    done: fmt::Result,
}

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let writer = &mut self.writer;
        let write = || {
            writer.write_char(',')?;
            text(writer, field.name())?;
            writer.write_char(':')?;
            value(writer)
        };
        self.done = self.done.and_then(|()| write());
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, |writer| match value.is_finite() {
            true => write!(writer, "{value:?}"),
            false => writer.write_str("null"),
        });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, |writer| text(writer, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, |writer| {
            writer.write_char('"')?;
            write!(Escaped(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }
}

fn text(writer: &mut impl Write, text: &str) -> fmt::Result {
    writer.write_char('"')?;
    Escaped(writer).write_str(text)?;
    writer.write_char('"')
}

/// Writes text as it stands within a string of JSON.
struct Escaped<'a, W>(&'a mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate() {
            if byte >= b' ' && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.0.write_str(&text[plain..at])?;
            plain = at + 1;
            match byte {
                b'"' => self.0.write_str("\\\"")?,
                b'\\' => self.0.write_str("\\\\")?,
                b'\n' => self.0.write_str("\\n")?,
                byte => write!(self.0, "\\u{byte:04x}")?,
            }
        }
        self.0.write_str(&text[plain..])
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the lines that are written meanwhile, without their times.
    fn lines(say: impl FnOnce()) -> Vec<Value> {
        let written = Written::default();
        let to = written.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || to.clone())
            .fmt_fields(Json)
            .event_format(Json);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, say);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let mut lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &mut lines {
            let at = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            assert!(at.as_str().unwrap().ends_with('Z') && at.as_str().unwrap().contains('T'));
        }
        lines
    }

    #[test]
    fn a_line_has_the_fields_of_its_event_and_of_its_span() {
        let said = lines(|| {
            let span = tracing::info_span!("rpc", service = "router", late = tracing::field::Empty);
            let _entered = span.enter();
            span.record("late", "a \"b\", c");
            span.record("late", 7_u64);
            let error = io::Error::other("broken \"pipe\"");
            tracing::warn!(
                whole = -3,
                part = 1.5,
                no = f64::NAN,
                yes = true,
                word = "ü",
                shown = %"a\nb",
                debug = ?Some("\\"),
                error = &error as &(dyn std::error::Error + 'static),
                "it {}\u{1}",
                "failed"
            );
        });
        let wanted = json!([{
            "level": "WARN", "message": "it failed\u{1}", "whole": -3, "part": 1.5, "no": null, "yes": true,
            "word": "ü", "shown": "a\nb", "debug": "Some(\"\\\\\")", "error": "broken \"pipe\"",
            "target": "runtime::lines::tests",
            "span": { "name": "rpc", "service": "router", "late": 7 },
        }]);
        assert_eq!(Value::from(said), wanted);
    }

    #[test]
    fn a_line_outside_of_a_span_has_none() {
        let said = lines(|| tracing::info!("here"));
        let wanted =
            json!([{ "level": "INFO", "message": "here", "target": "runtime::lines::tests" }]);
        assert_eq!(Value::from(said), wanted);
    }
}
