//! An event as one line of JSON: `timestamp`, `level`, `module`, `message`, then the event's own fields. Each key
//! is there once: a field with the name of one that is there already gets an underscore.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Clock;

/// Writes the lines; the clock says when.
pub(super) struct Lines(pub(super) Clock);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // What came through `log` says where it is from in fields; these become its metadata again.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let mut line = Line(Map::new());
        line.add("timestamp", self.0.wall().to_string());
        line.add("level", metadata.level().as_str());
        line.add("module", metadata.target());
        line.add("message", Value::Null); // keeps its place before the fields
        event.record(&mut line);
        if line.0.get("message").is_some_and(Value::is_null) {
            line.0.shift_remove("message");
        }
        writeln!(out, "{}", Value::Object(line.0))
    }
}

struct Line(Map<String, Value>);

impl Line {
    fn add(&mut self, name: &str, value: impl Into<Value>) {
        let mut name = name.to_owned();
        while self.0.get(&name).is_some_and(|held| !(name == "message" && held.is_null())) {
            name.push('_');
        }
        self.0.insert(name, value.into());
    }

    fn field(&mut self, field: &Field, value: impl Into<Value>) {
        if !field.name().starts_with("log.") {
            self.add(field.name(), value);
        }
    }
}

impl Visit for Line {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, format!("{value:?}"));
    }
}
