//! What the cases stand on: the real program ([`gateway`]), scripted origins ([`origin`]), clients ([`client`]).

pub mod client;
pub mod gateway;
pub mod origin;
pub mod table;
pub mod tokens;
pub mod wait;
pub mod wire;

mod selftest;

pub use client::{Client, Got, P, Session, multipart, send, try_send};
pub use gateway::{Gateway, GatewayConfig, Reloaded};
pub use origin::{Answer, Hold, Origin};
pub use table::Services;
pub use wait::{PATIENCE, soon, until};
