//! Where a call to [`Accounts`](super::Accounts) comes from.

use std::net::IpAddr;

/// Longest description of a client that is kept, in characters.
const MAX_AGENT_CHARS: usize = 256;

/// Where a call comes from: for the list of sessions, the throttle and the audit trail. Proves nothing.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The client's address; `None`: not known, as on the command line.
    pub address: Option<IpAddr>,
    /// What the client calls itself, cut to 256 characters, without control characters.
    pub user_agent: Option<String>,
    /// Id of the request.
    pub request_id: Option<String>,
}

impl Origin {
    /// An origin with a description of the client as it was sent.
    pub fn new(address: Option<IpAddr>, user_agent: Option<&str>, request_id: Option<&str>) -> Origin {
        let user_agent =
            user_agent.map(|text| text.chars().filter(|c| !c.is_control()).take(MAX_AGENT_CHARS).collect());
        Origin { address, user_agent, request_id: request_id.map(str::to_owned) }
    }
}
