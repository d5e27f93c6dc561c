//! What can be seen from outside: numbers ([`metrics`]), one line per request ([`access_log`]) and events of the
//! program itself ([`logging`]). Nothing here decides anything about a request.

pub mod access_log;
mod flags;
pub mod logging;
pub mod metrics;
