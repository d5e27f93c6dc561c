//! Listening to one channel, on a connection of its own, for ever: broken connections are made anew.
//!
//! Redis keeps no messages for who is not there (<https://redis.io/docs/latest/develop/interact/pubsub/>, "at-most-once"),
//! so the listener is told of each new beginning, and must then look elsewhere for what it may have missed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::time::timeout;

use super::backoff::Backoff;
use super::connection::{CONNECT_WITHIN, PING_WITHIN, RedisProblem, SharedRedis};

/// How often a silent connection is tried.
const PING_EVERY: Duration = Duration::from_secs(2);

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Messages sent from now on will be heard; those before may have been missed.
    Subscribed,
    /// A message, as sent.
    Message(Vec<u8>),
    /// Messages are not heard any more, or could not be from the start. Trying again.
    Lost(RedisProblem),
}

/// A listener on one channel.
pub struct Subscription {
    shared: Arc<SharedRedis>,
    channel: String,
    live: Option<(PubSubSink, PubSubStream)>,
    backoff: Backoff,
    /// Whether the listener knows that nothing is heard.
    said: bool,
}

impl Subscription {
    /// A listener on the channel `name`, which gets the prefix. Connects with the first [`Subscription::next`].
    pub fn new(shared: Arc<SharedRedis>, name: &str) -> Subscription {
        let channel = shared.key(name);
        Subscription { shared, channel, live: None, backoff: Backoff::default(), said: false }
    }

    /// What happens next. Never ends; waits between tries to connect.
    pub async fn next(&mut self) -> Heard {
        loop {
            match self.listen().await {
                Ok(heard) => return heard,
                Err(problem) => {
                    self.live = None;
                    if !self.said {
                        self.said = true;
                        return Heard::Lost(problem);
                    }
                    tokio::time::sleep(self.backoff.next()).await;
                }
            }
        }
    }

    async fn listen(&mut self) -> Result<Heard, RedisProblem> {
        let Some((sink, stream)) = &mut self.live else {
            let live = timeout(CONNECT_WITHIN, self.subscribe()).await;
            self.live = Some(live.map_err(|_| RedisProblem::Late(CONNECT_WITHIN))??);
            self.backoff.reset();
            self.said = false;
            return Ok(Heard::Subscribed);
        };
        loop {
            match timeout(PING_EVERY, stream.next()).await {
                Ok(Some(message)) => return Ok(Heard::Message(message.get_payload_bytes().to_vec())),
                Ok(None) => return Err(RedisProblem::Failed("the connection ended".into())),
                Err(_) => {
                    let pong = timeout(PING_WITHIN, sink.ping::<redis::Value>()).await;
                    pong.map_err(|_| RedisProblem::Late(PING_WITHIN))??;
                }
            }
        }
    }

    async fn subscribe(&self) -> Result<(PubSubSink, PubSubStream), RedisProblem> {
        let (mut sink, stream) = self.shared.client().get_async_pubsub().await?.split();
        sink.subscribe(&self.channel).await?;
        Ok((sink, stream))
    }
}
