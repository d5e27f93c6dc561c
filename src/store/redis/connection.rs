//! One connection for commands, kept by a task: made anew when it breaks, and simply absent while it is not there, so
//! that nobody ever waits for a reconnection.
//!
//! Not the crate's `ConnectionManager`: it lets commands wait while it connects, and never tries again after a handshake
//! that failed otherwise than by I/O (a password that is mended later, a server that is still loading).

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, RedisError, RedisResult};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::backoff::Backoff;

/// Longest that a connection may take to be made, with its handshake.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How often a quiet connection is tried.
const PING_EVERY: Duration = Duration::from_secs(1);
/// Longest that a healthy Redis takes to answer a ping.
pub(super) const PING_WITHIN: Duration = Duration::from_secs(1);

/// Why Redis did not do what it was asked. Never holds the URL or what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisProblem {
    /// `REDIS_URL` cannot be used; says why.
    #[error("{0}; expected redis://host:port, rediss://host:port (TLS) or unix:///path")]
    BadUrl(String),
    /// There is no connection now; one is being made.
    #[error("Redis is not connected")]
    Away,
    /// It did not answer in time.
    #[error("Redis did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// It answered with an error, or the connection broke.
    #[error("Redis: {0}")]
    Failed(String),
}

impl From<RedisError> for RedisProblem {
    fn from(error: RedisError) -> RedisProblem {
        RedisProblem::Failed(reason(&error))
    }
}

/// The connection for commands, shared by everybody in the process.
pub struct SharedRedis {
    client: Client,
    prefix: String,
    /// Absent while there is none.
    live: ArcSwapOption<MultiplexedConnection>,
    /// Somebody saw the connection fail.
    trouble: Notify,
}

impl fmt::Debug for SharedRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRedis").field("prefix", &self.prefix).field("up", &self.is_up()).finish_non_exhaustive()
    }
}

impl SharedRedis {
    /// Makes ready for the Redis at `url`; all keys and channels begin with `prefix`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`RedisProblem::BadUrl`], which does not show the URL.
    pub fn new(url: &SecretString, prefix: &str) -> Result<Arc<SharedRedis>, RedisProblem> {
        let client = Client::open(url.expose_secret())
            .map_err(|error| RedisProblem::BadUrl(format!("is no address of a Redis ({})", reason(&error))))?;
        if matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(RedisProblem::BadUrl("asks for TLS without verification, which would trust anybody".into()));
        }
        let (prefix, live, trouble) = (prefix.to_owned(), ArcSwapOption::empty(), Notify::new());
        Ok(Arc::new(SharedRedis { client, prefix, live, trouble }))
    }

    /// The full name of a key or channel.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Whether there is a connection, as far as is known.
    pub fn is_up(&self) -> bool {
        self.live.load().is_some()
    }

    /// Connects now, for a process that does one thing and ends; the others leave it to [`SharedRedis::keep`].
    ///
    /// # Errors
    /// When no connection is made in time.
    pub async fn connect(&self) -> Result<(), RedisProblem> {
        let connection = self.client.get_multiplexed_async_connection_with_config(&config()).await?;
        self.live.store(Some(Arc::new(connection)));
        Ok(())
    }

    /// Keeps a connection for as long as `runtime` lives; `told` hears of every change: whether it is there now.
    pub fn keep(self: &Arc<Self>, runtime: &Handle, told: impl Fn(bool) + Send + 'static) {
        told(false);
        let shared = self.clone();
        runtime.spawn(async move {
            let (mut backoff, mut said) = (Backoff::default(), false);
            loop {
                let lost = match shared.connect().await {
                    Ok(()) => {
                        told(true);
                        tracing::info!("Redis is connected");
                        let why = shared.until_broken().await;
                        (backoff, said) = (Backoff::default(), false);
                        shared.live.store(None);
                        told(false);
                        why
                    }
                    Err(why) => why,
                };
                if !said {
                    tracing::warn!(error = %lost, "Redis is away; going on without it");
                    said = true;
                }
                tokio::time::sleep(backoff.next()).await;
            }
        });
    }

    /// Sends a message to whoever listens on `channel` now. How many did is not known.
    ///
    /// # Errors
    /// When Redis did not take it within `within`.
    pub async fn publish(&self, channel: &str, message: &str, within: Duration) -> Result<(), RedisProblem> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(message);
        self.ask(within, |mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// One exchange with Redis: a command or a script, by `call`, answered within `within`. At once an error while
    /// there is no connection.
    pub(super) async fn ask<T, F>(
        &self,
        within: Duration,
        call: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, RedisProblem>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let connection = self.live.load_full().ok_or(RedisProblem::Away)?;
        match timeout(within, call(MultiplexedConnection::clone(&connection))).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if error.is_unrecoverable_error() {
                    self.trouble.notify_one();
                }
                Err(error.into())
            }
            Err(_) => {
                self.trouble.notify_one();
                Err(RedisProblem::Late(within))
            }
        }
    }

    /// The client, to open connections that are not for commands.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Ends when the connection does not answer a ping any more; says why.
    async fn until_broken(&self) -> RedisProblem {
        loop {
            // A failed command asks for a look at once; the wait is what ends otherwise.
            let _ = timeout(PING_EVERY, self.trouble.notified()).await;
            let ping = redis::cmd("PING");
            let pong = self.ask(PING_WITHIN, |mut connection| async move {
                ping.query_async::<redis::Value>(&mut connection).await
            });
            if let Err(problem) = pong.await {
                return problem;
            }
        }
    }
}

fn config() -> AsyncConnectionConfig {
    // Each exchange has a time limit of its own.
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_WITHIN)).set_response_timeout(None)
}

/// Most characters of what a server says that are passed on.
const LONGEST_DETAIL: usize = 200;

/// What went wrong, without anything that was sent: some servers repeat a command they do not know, password and all.
pub(super) fn reason(error: &RedisError) -> String {
    if error.is_io_error() {
        return error.to_string();
    }
    // Of several commands in one exchange, the first that failed.
    let errors = error.clone().into_server_errors();
    let Some((_, first)) = errors.as_ref().and_then(|errors| errors.first()) else {
        return error.category().to_owned();
    };
    match first.details() {
        Some(detail) if !repeats(first.code(), detail) => {
            let detail = detail.chars().take(LONGEST_DETAIL).map(|c| if c.is_control() { ' ' } else { c });
            format!("{} {}", first.code(), detail.collect::<String>())
        }
        _ => format!("{} ({})", error.category(), first.code()),
    }
}

/// Whether a server's words may hold what it was sent: those of plain errors, unless they are about a script, whose text
/// is no secret.
fn repeats(code: &str, detail: &str) -> bool {
    detail.contains("with args") || (code == "ERR" && !detail.contains("script"))
}
