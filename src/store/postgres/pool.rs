//! Connections: a bounded pool, every wait with an end, broken connections replaced.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool as Connections, PoolError, RecyclingMethod,
    Runtime,
};
use tokio::time::timeout;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::StoreError;
use super::PostgresOptions;
use super::target::Target;
use super::tls;

/// A silent connection is asked after this long whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What a call does with its connection.
pub(super) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// The way to the database. Clones share their connections.
#[derive(Clone)]
pub(super) struct Pool {
    connections: Connections,
    timeout: Duration,
}

impl Pool {
    /// Makes the pool; connects at the first call.
    pub(super) fn new(options: &PostgresOptions) -> Result<Pool, StoreError> {
        let Target { mut config, tls, .. } = Target::parse(&options.url)?;
        prepare(&mut config, options);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match tls::connector(&tls)? {
            Some(tls) => Manager::from_config(config, tls, recycling),
            None => Manager::from_config(config, NoTls, recycling),
        };
        let connections = Connections::builder(manager)
            .max_size(options.connections)
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(options.connect_timeout))
            .post_create(session_settings(options.timeout))
            .build()
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Pool { connections, timeout: options.timeout })
    }

    /// Runs one call on a connection of its own. Ends within twice the timeout, whatever the database does.
    ///
    /// In a task: a caller that leaves neither cuts a transaction short nor hands on a connection in the middle of one.
    pub(super) async fn call<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut ClientWrapper) -> Work<'c, T> + Send + 'static,
    {
        let pool = self.clone();
        let task = tokio::spawn(async move { pool.work(work).await });
        task.await.map_err(|_| StoreError::Unavailable("the call was lost".to_owned()))?
    }

    async fn work<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut ClientWrapper) -> Work<'c, T>,
    {
        let mut connection = match timeout(self.timeout, self.connections.get()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(no_connection(error)),
            Err(_) => return Err(self.late("gave no connection")),
        };
        let outcome = timeout(self.timeout, work(&mut connection)).await;
        match outcome {
            Ok(Err(error @ StoreError::Unavailable(_))) => {
                // Whatever is wrong with it, the next call gets another.
                drop(Object::take(connection));
                Err(error)
            }
            Ok(outcome) => outcome,
            Err(_) => {
                drop(Object::take(connection));
                // The others were made when this one was: they may hang as it did.
                drop(self.connections.retain(|_, _| false));
                Err(self.late("did not answer"))
            }
        }
    }

    fn late(&self, what: &str) -> StoreError {
        StoreError::Unavailable(format!("the database {what} within {:?}", self.timeout))
    }
}

/// Why there is no connection.
pub(super) enum NoConnection {
    /// The database may be there later.
    Yet(StoreError),
    /// Waiting changes nothing: it refuses us, or we refuse it.
    Ever(StoreError),
}

/// One connection outside of the pool, for migrations: its statements may take their time.
pub(super) async fn connect(options: &PostgresOptions) -> Result<Client, NoConnection> {
    let Target { mut config, tls, .. } = Target::parse(&options.url).map_err(NoConnection::Ever)?;
    prepare(&mut config, options);
    let connected = match tls::connector(&tls).map_err(NoConnection::Ever)? {
        Some(tls) => timeout(options.connect_timeout, with_tls(config, tls)).await,
        None => timeout(options.connect_timeout, without_tls(config)).await,
    };
    match connected {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) if may_pass(&error) => Err(NoConnection::Yet(error.into())),
        Ok(Err(error)) => Err(NoConnection::Ever(error.into())),
        Err(_) => {
            let late = format!("no connection within {:?}", options.connect_timeout);
            Err(NoConnection::Yet(StoreError::Unavailable(late)))
        }
    }
}

/// Whether an error is of the network, or of a server that is starting, ending or full.
fn may_pass(error: &Error) -> bool {
    if let Some(told) = error.as_db_error() {
        return ["08", "53", "57"].iter().any(|class| told.code().code().starts_with(class));
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.kind() != io::ErrorKind::InvalidData; // a certificate that is not believed
        }
        cause = error.source();
    }
    error.is_closed()
}

async fn with_tls(config: Config, tls: MakeRustlsConnect) -> Result<Client, Error> {
    let (client, connection) = config.connect(tls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn without_tls(config: Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn prepare(config: &mut Config, options: &PostgresOptions) {
    config.connect_timeout(options.connect_timeout).keepalives(true).keepalives_idle(KEEPALIVE);
}

/// The server gives up when we do, so that a call that was given up holds no lock.
fn session_settings(timeout: Duration) -> Hook {
    let ms = timeout.as_millis();
    let settings = format!(
        "SET statement_timeout = {ms}; SET lock_timeout = {ms}; SET idle_in_transaction_session_timeout = {ms}"
    );
    Hook::async_fn(move |client: &mut ClientWrapper, _| {
        let settings = settings.clone();
        Box::pin(async move { client.batch_execute(&settings).await.map_err(HookError::Backend) })
    })
}

fn no_connection(error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
        other => StoreError::Unavailable(format!("no connection to the database: {other}")),
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> StoreError {
        match error.as_db_error() {
            Some(told) if *told.code() == SqlState::UNIQUE_VIOLATION => StoreError::Conflict,
            // Class 22: a value that PostgreSQL cannot take, such as a text with a NUL. It answered, so it is there.
            Some(told) if told.code().code().starts_with("22") => StoreError::Unreadable("a value it was given"),
            Some(told) => StoreError::Unavailable(describe(told)),
            None => StoreError::Unavailable(with_causes(&error)),
        }
    }
}

/// Without the detail, which may hold values.
pub(super) fn describe(error: &DbError) -> String {
    format!("{} ({})", error.message(), error.code().code())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat their cause.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
