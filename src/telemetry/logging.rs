//! Events of the program itself: JSON lines, or text for people, on standard error. Requests are the access log's
//! business ([`super::access_log`]); secrets and bodies are nobody's.

mod json;

use std::fmt;
use std::io::{self, IsTerminal};

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

use crate::clock::Clock;

/// Whose events are heard at the level asked for. Of all others only warnings and errors are kept: they say what they
/// work on, such as the parameters of every statement, password hashes included.
const OURS: &str = "ssm_gateway";

/// Logs each failed request as an error of its own, query string included. The access log and the proxy's own
/// events have the facts without it.
const UNHEARD: &str = "pingora_proxy";

/// Form of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, for machines.
    Json,
    /// One line of text, for people.
    Text,
}

impl LogFormat {
    /// Text when standard error is a terminal, else JSON.
    pub fn for_stderr() -> LogFormat {
        if io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json }
    }
}

/// Starts logging, for the whole process; also for what other packages say through `log`.
///
/// # Errors
/// When it was started before.
pub fn init(level: Level, format: LogFormat, clock: Clock) -> Result<(), TryInitError> {
    tracing_subscriber::registry().with(layer(level, format, clock, io::stderr)).try_init()
}

fn layer<W>(level: Level, format: LogFormat, clock: Clock, out: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let base = tracing_subscriber::fmt::layer().with_writer(out);
    match format {
        LogFormat::Json => base.event_format(json::Lines(clock)).with_filter(filter(level)).boxed(),
        LogFormat::Text => {
            let ansi = io::stderr().is_terminal();
            base.with_timer(ClockTime(clock)).with_ansi(ansi).with_filter(filter(level)).boxed()
        }
    }
}

fn filter(level: Level) -> Targets {
    let quiet = LevelFilter::WARN.min(LevelFilter::from_level(level));
    Targets::new().with_default(quiet).with_target(OURS, level).with_target(UNHEARD, LevelFilter::OFF)
}

/// The time of an event, from our own clock.
struct ClockTime(Clock);

impl FormatTime for ClockTime {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{}", self.0.wall())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::io::Write;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(buffer);
            Ok(buffer.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(format: LogFormat, events: impl FnOnce()) -> String {
        let kept = Kept::default();
        let out = kept.clone();
        let (clock, _hand) = Clock::manual();
        let subscriber = tracing_subscriber::registry().with(layer(Level::INFO, format, clock, move || out.clone()));
        tracing::subscriber::with_default(subscriber, events);
        let bytes = kept.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_json_line_with_its_fields() {
        let text = said(LogFormat::Json, || tracing::info!(generation = 7, "table published"));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["timestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "table published");
        assert_eq!(line["generation"], 7);
    }

    #[test]
    fn no_field_takes_the_place_of_another() {
        let text = said(LogFormat::Json, || {
            tracing::warn!(target = "target-1", level = 3, module = "m", timestamp = "t", "circuit \"opened\"\n");
        });
        assert_eq!(
            text,
            concat!(
                r#"{"timestamp":"2026-01-01T00:00:00Z","level":"WARN","module":"ssm_gateway::telemetry::logging::tests","#,
                r#""message":"circuit \"opened\"\n","target":"target-1","level_":3,"module_":"m","timestamp_":"t"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn other_packages_are_heard_from_warnings_on() {
        let text = said(LogFormat::Text, || {
            tracing::info!(target: "pingora_core::server", "chatter");
            tracing::warn!(target: "pingora_core::server", "trouble");
            tracing::error!(target: "pingora_proxy", "GET /?token=1");
            tracing::debug!("detail");
        });
        assert!(text.contains("trouble"), "{text}");
        assert!(!["chatter", "detail", "token"].iter().any(|word| text.contains(word)), "{text}");
    }

    #[test]
    fn no_level_makes_others_say_what_they_work_on() {
        let wants = |target: &str, level| filter(Level::TRACE).would_enable(target, &level);
        for target in ["tokio_postgres::query", "redis", "rustls::client", "a_package_to_come"] {
            assert!(
                !wants(target, Level::INFO) && !wants(target, Level::DEBUG) && wants(target, Level::WARN),
                "{target}"
            );
        }
        assert!(wants("ssm_gateway::store", Level::TRACE));
    }

    #[test]
    fn what_is_said_through_log_is_heard_under_its_own_name() {
        use tracing_log::log;
        // Global, and another test may have done it.
        tracing_log::LogTracer::init().unwrap_or_default();
        let text = said(LogFormat::Json, || {
            log::warn!(target: "pingora_core::server", "trouble");
            log::info!(target: "pingora_core::server", "chatter");
            log::error!(target: "pingora_proxy", "GET /?token=1");
            log::info!(target: "ssm_gateway::elsewhere", "news");
        });
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let heard: Vec<_> = lines.iter().map(|line| (line["module"].clone(), line["message"].clone())).collect();
        let expected = [("pingora_core::server", "trouble"), ("ssm_gateway::elsewhere", "news")];
        assert_eq!(heard, expected.map(|(target, message)| (target.into(), message.into())));
    }
}
