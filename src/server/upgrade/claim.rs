//! The new process's side: asks the running one for its sockets.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::timeout;

use super::wire::{PROTOCOL, Word, hear, say};
use super::{Sockets, place};

/// Longest that the running process's first word is waited for. It comes at once, unless another upgrade is under way.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// A conversation with the running process.
pub struct Claim {
    stream: UnixStream,
    pid: u32,
    public: SocketAddr,
    admin: SocketAddr,
}

impl Claim {
    /// Asks the process that runs with this data folder, and compares the addresses: sockets go over as they are.
    ///
    /// # Errors
    /// When none runs, or another user's, or one with other addresses.
    pub async fn open(data_dir: &Path, public: SocketAddr, admin: SocketAddr) -> anyhow::Result<Claim> {
        let stream = connect(data_dir).await?;
        if stream.peer_cred()?.uid() != rustix::process::getuid().as_raw() {
            bail!("--upgrade: the running gateway belongs to another user; run as that one");
        }
        let heard = timeout(FIRST_WORD, hear(&stream))
            .await
            .context("--upgrade: the running gateway does not answer; is another upgrade under way?")?;
        let (Word::Here { protocol, pid, version, public: its_public, admin: its_admin }, _) =
            heard.context("--upgrade: the running gateway does not answer")?
        else {
            bail!("--upgrade: the running gateway answers something else");
        };
        if protocol != PROTOCOL {
            bail!("--upgrade: the running gateway ({version}) hands over in another way; restart instead");
        }
        for (what, its, ours) in [("listen", its_public, public), ("admin.address", its_admin, admin)] {
            if its != ours {
                bail!(
                    "--upgrade: {what} is {ours}, the running gateway (process {pid}) has {its}: an upgrade takes the \
                     sockets over as they are; restart instead"
                );
            }
        }
        tracing::info!(pid, version, "taking over from the running gateway");
        Ok(Claim { stream, pid, public, admin })
    }

    /// Says that everything else is there, and waits for the sockets: until SIGQUIT was sent to the running process.
    ///
    /// # Errors
    /// When that takes longer than `wait`, or the process ends or goes on by itself.
    pub async fn sockets(&self, wait: Duration) -> anyhow::Result<Sockets> {
        let pid = self.pid;
        let prepared = Word::Prepared { version: env!("CARGO_PKG_VERSION").to_owned() };
        let gone = || format!("--upgrade: the running gateway (process {pid}) ended, or goes on without this one");
        say(&self.stream, &prepared, &[]).await.with_context(gone)?;
        tracing::info!(pid, "ready to take over; waiting for SIGQUIT to that process");
        let heard = timeout(wait, hear(&self.stream)).await;
        let late = || format!("--upgrade: process {pid} was not sent SIGQUIT within {} s; it goes on", wait.as_secs());
        let (Word::Sockets, fds) = heard.with_context(late)?.with_context(gone)? else {
            bail!("--upgrade: process {pid} answers something else");
        };
        let Ok([public, admin]) = <[OwnedFd; 2]>::try_from(fds) else {
            bail!("--upgrade: process {pid} did not send its two sockets");
        };
        Ok(Sockets { public: listener(public, self.public)?, admin: listener(admin, self.admin)? })
    }

    /// Says that this process accepts: the running one stops then.
    pub async fn accepting(&self) -> anyhow::Result<()> {
        say(&self.stream, &Word::Accepting, &[]).await.context("--upgrade: the running gateway is gone")
    }
}

async fn connect(data_dir: &Path) -> anyhow::Result<UnixStream> {
    let folder = data_dir.display();
    let nobody = || format!("--upgrade: no gateway runs with the data folder {folder}; start without --upgrade");
    let path = place(data_dir).with_context(nobody)?;
    UnixStream::connect(&path).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow::anyhow!(nobody()),
        ErrorKind::PermissionDenied => {
            anyhow::anyhow!(
                "--upgrade: the gateway of the data folder {folder} belongs to another user; run as that one"
            )
        }
        _ => anyhow::anyhow!("--upgrade: {}: {error}", path.display()),
    })
}

/// The socket, which must be what the other process said.
fn listener(fd: OwnedFd, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = std::net::TcpListener::from(fd);
    let its = listener.local_addr()?;
    if its != address {
        bail!("--upgrade: got a socket of {its} in the place of {address}");
    }
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}
