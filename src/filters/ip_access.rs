//! Lets only some client networks call a route.

use async_trait::async_trait;
use ipnet::IpNet;

use super::{Decision, Exchange, Filter};
use crate::model::forwarded::is_trusted;
use crate::model::rejection::Rejection;

/// Refuses clients outside the listed networks.
#[derive(Debug)]
pub struct IpAccess(Box<[IpNet]>);

impl IpAccess {
    /// Only clients in `networks` may call; an empty list lets nobody in.
    pub fn new(networks: &[IpNet]) -> IpAccess {
        IpAccess(networks.into())
    }
}

#[async_trait]
impl Filter for IpAccess {
    async fn on_request(&self, exchange: &mut Exchange<'_>) -> Result<Decision, Rejection> {
        if is_trusted(exchange.client.address.to_canonical(), &self.0) {
            Ok(Decision::Continue)
        } else {
            Err(Rejection::ForbiddenAddress)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::exchange::tests::Request;

    #[tokio::test]
    async fn only_listed_networks_pass() {
        let access = IpAccess::new(&["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for (address, passes) in
            [("127.0.0.1", true), ("::ffff:127.0.0.1", true), ("fd00::1", true), ("192.0.2.1", false), ("::1", false)]
        {
            let request = Request::get("/").from(address);
            let verdict = access.on_request(&mut request.exchange()).await;
            assert_eq!(verdict.is_ok(), passes, "{address}");
        }
    }
}
