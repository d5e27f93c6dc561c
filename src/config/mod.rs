//! What ops write: `conf/gateway.yaml` and the environment ([`settings`]), `routes.yaml` ([`routes`], its shape in
//! [`spec`]), and what is wrong with them ([`problem`]).
//!
//! Text → tree with lines ([`locate`]) → environment put in and shape checked ([`decode`]) → cross-checked ([`check`]).

pub mod env;
pub mod problem;

pub mod spec;

pub mod list;

pub mod locate;

pub mod report;

pub mod decode;

pub mod check;

pub mod routes;

pub mod on_reload;

mod secret;
pub mod settings;
mod settings_check;
pub mod settings_database;
mod settings_log;
mod settings_redis;
mod settings_spec;
mod tls;
mod token_settings;
mod upstream_tls;
mod variables;

pub mod schema;

#[cfg(test)]
mod cases;
