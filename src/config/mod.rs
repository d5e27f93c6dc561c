//! What ops write: `conf/gateway.yaml` and the environment ([`settings`]), `routes.yaml` ([`spec`]),
//! and what is wrong with them ([`problem`]).

pub mod spec;
