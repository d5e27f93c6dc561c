//! Values: no I/O, no async, no Pingora, no clock. Everything here can be tested by calling it.

pub mod access;
pub mod algorithm;
pub mod balance;
pub mod breaker;
pub mod cors;
pub mod email;
pub mod endpoint;
pub mod forwarded;
pub mod gcra;
pub mod health;
pub mod identity;
pub mod json;
pub mod lang;
pub mod line;
pub mod path;
pub mod rejection;
pub mod reply;
pub mod retry;
pub mod retry_after;
pub mod role;
pub mod route_table;
pub mod server_name;
pub mod throttle;
pub mod units;
pub mod window;
