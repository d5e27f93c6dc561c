//! What the cases stand on: the real program ([`gateway`]), scripted origins ([`origin`]), clients ([`client`]).

pub mod beside;
pub mod client;
pub mod gateway;
pub mod http2;
pub mod limits;
pub mod origin;
pub mod page;
pub mod pki;
pub mod processes;
#[allow(dead_code, reason = "shared with the unit tests; each uses a part")]
pub mod redis_server;
#[allow(dead_code, reason = "shared with the unit tests; each uses a part")]
pub mod relay;
#[allow(dead_code, reason = "shared with the unit tests; each uses a part")]
pub mod servers;
pub mod table;
pub mod tokens;
pub mod wait;
pub mod wire;

mod selftest;

pub use beside::Beside;
pub use client::{Client, Got, P, Session, multipart, send, try_send};
pub use gateway::{Gateway, GatewayConfig, Reloaded};
pub use origin::{Answer, Hold, Origin};
pub use redis_server::PrivateRedis;
pub use servers::{Database, PrivatePostgres};
pub use table::Services;
pub use wait::{PATIENCE, soon, until};
