//! The running process's side: offers its sockets to a new one, once SIGQUIT has allowed it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep, timeout};

use super::wire::{PROTOCOL, Word, hear, say};
use super::{Copies, place};

/// From the hand-over to the new process's word that it accepts: it has nothing left to do but that.
const TAKES_AT_MOST: Duration = Duration::from_secs(10);

/// The offer of this process's sockets.
pub struct Offer {
    ask: mpsc::UnboundedSender<()>,
    taken: oneshot::Receiver<u32>,
    task: JoinHandle<()>,
    name: Name,
}

/// The socket's name in the data folder.
struct Name {
    path: PathBuf,
    inode: u64,
    /// Whether the process that took over puts its own there.
    passed_on: bool,
}

impl Name {
    fn bind(path: PathBuf) -> anyhow::Result<(Name, UnixListener)> {
        let next = path.with_file_name(format!("next-{}.sock", std::process::id()));
        let _ = fs::remove_file(&next); // left by a process that had our number and was killed
        let listener = UnixListener::bind(&next).with_context(|| next.display().to_string())?;
        fs::set_permissions(&next, fs::Permissions::from_mode(0o600))?;
        let inode = fs::symlink_metadata(&next)?.ino();
        fs::rename(&next, &path)?; // at no moment is there none
        Ok((Name { path, inode, passed_on: false }, listener))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.passed_on && fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Offer {
    /// Offers the sockets in the data folder. SIGQUIT and the new process wait `wait` for each other. `succeeds`: in the
    /// place of the process that they were taken over from.
    ///
    /// # Errors
    /// When another process offers its own there, or the folder takes no socket.
    pub fn open(data_dir: &Path, sockets: Copies, wait: Duration, succeeds: bool) -> anyhow::Result<Offer> {
        let path = place(data_dir)?;
        if !succeeds && std::os::unix::net::UnixStream::connect(&path).is_ok() {
            bail!("another gateway has the same data folder");
        }
        let (name, listener) = Name::bind(path)?;
        let (ask, asks) = mpsc::unbounded_channel();
        let (done, taken) = oneshot::channel();
        let allowed = watch::Sender::new(false);
        let desk = Arc::new(Desk { sockets, allowed: allowed.subscribe(), committed: AtomicBool::new(false) });
        let task = tokio::spawn(async move {
            let pid = Turn { desk, allowed, wait }.run(listener, asks).await;
            let _ = done.send(pid);
        });
        Ok(Offer { ask, taken, task, name })
    }

    /// SIGQUIT: a new process may take over from now on, for a while.
    pub fn allow(&self) {
        let _ = self.ask.send(()); // its task ends only when it was taken
    }

    /// Returns, once, when a new process accepts; its id.
    pub async fn taken(&mut self) -> u32 {
        match (&mut self.taken).await {
            Ok(pid) => {
                self.name.passed_on = true;
                pid
            }
            Err(_) => std::future::pending().await,
        }
    }

    /// Withdraws the offer and lets go of the sockets.
    pub async fn withdraw(self) {
        self.task.abort();
        let _ = self.task.await;
        drop(self.name);
    }
}

/// What a conversation needs.
struct Desk {
    sockets: Copies,
    allowed: watch::Receiver<bool>,
    /// Set while the sockets are on their way: then only the other side ends the conversation.
    committed: AtomicBool,
}

type Conversation = Pin<Box<dyn Future<Output = anyhow::Result<u32>> + Send>>;

/// One conversation at a time, and what SIGQUIT allows.
struct Turn {
    desk: Arc<Desk>,
    allowed: watch::Sender<bool>,
    wait: Duration,
}

impl Turn {
    async fn run(self, listener: UnixListener, mut asks: mpsc::UnboundedReceiver<()>) -> u32 {
        let mut talk: Option<Conversation> = None;
        let mut until: Option<Pin<Box<Sleep>>> = None;
        loop {
            tokio::select! {
                Some(()) = asks.recv() => {
                    tracing::info!(seconds = self.wait.as_secs(), "SIGQUIT: a new process may take over; until then this one goes on");
                    until = Some(Box::pin(sleep(self.wait)));
                    self.allowed.send_replace(true);
                }
                () = some(&mut until) => {
                    until = None;
                    self.allowed.send_replace(false);
                    if !self.desk.committed.load(Ordering::Acquire) {
                        talk = None;
                    }
                    tracing::error!("no new process was ready in time; this one goes on");
                }
                accepted = listener.accept(), if talk.is_none() => match accepted {
                    Ok((stream, _)) => talk = Some(Box::pin(self.desk.clone().converse(stream))),
                    Err(_) => sleep(Duration::from_secs(1)).await, // out of descriptors
                },
                ended = some(&mut talk) => match ended {
                    Ok(pid) => return pid,
                    Err(error) => {
                        talk = None;
                        tracing::error!(error = format!("{error:#}"), "the upgrade failed; this process goes on");
                    }
                },
            }
        }
    }
}

/// Waits for what there is; without it, for ever.
async fn some<F: Future + ?Sized>(future: &mut Option<Pin<Box<F>>>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

impl Desk {
    async fn converse(self: Arc<Self>, stream: UnixStream) -> anyhow::Result<u32> {
        let other = stream.peer_cred()?;
        let pid = other.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
        if other.uid() != rustix::process::getuid().as_raw() {
            bail!("the new process ({pid}) belongs to another user");
        }
        let here = Word::Here {
            protocol: PROTOCOL,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            public: self.sockets.public,
            admin: self.sockets.admin,
        };
        let gone = || format!("the new process ({pid}) was not ready");
        say(&stream, &here, &[]).await.with_context(gone)?;
        let (Word::Prepared { version }, _) = hear(&stream).await.with_context(gone)? else {
            bail!("the new process ({pid}) did not say that it is ready");
        };
        let mut allowed = self.allowed.clone();
        let waits = !*allowed.borrow();
        tracing::info!(pid, version, waits_for_sigquit = waits, "a new process is ready to take over");
        tokio::select! {
            _ = allowed.wait_for(|allowed| *allowed) => {} // its sender outlives this
            heard = hear(&stream) => {
                let _ = heard.with_context(|| format!("the new process ({pid}) waits no longer"))?;
                bail!("the new process ({pid}) speaks out of turn");
            }
        }
        self.committed.store(true, Ordering::Release);
        let handed = self.hand_over(&stream).await;
        self.committed.store(false, Ordering::Release);
        handed.with_context(|| format!("the new process ({pid}) does not accept"))?;
        Ok(pid)
    }

    async fn hand_over(&self, stream: &UnixStream) -> anyhow::Result<()> {
        say(stream, &Word::Sockets, &self.sockets.fds).await?;
        match timeout(TAKES_AT_MOST, hear(stream)).await.context("it says nothing")?? {
            (Word::Accepting, _) => Ok(()),
            _ => bail!("it speaks out of turn"),
        }
    }
}
