//! What unit tests share with the integration tests: waiting, and real servers. Not in the program.

#![allow(unreachable_pub, dead_code)]

#[path = "../tests/it/harness/redis_server.rs"]
pub mod redis_server;
#[path = "../tests/it/harness/relay.rs"]
pub mod relay;
#[path = "../tests/it/harness/servers.rs"]
pub mod servers;
#[path = "../tests/it/harness/wait.rs"]
pub mod wait;
