//! The two ports: bound by this process or taken over from a running one, and what listens there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pingora::services::Service as _;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::services::Services;
use super::upgrade::{Claim, Offer, Sockets};
use super::{listeners, side_listener};
use crate::config::settings::Settings;

/// Longest that a listener which cannot be built takes to end.
const BUILT_WITHIN: Duration = Duration::from_millis(100);
/// Between two looks at whether this process is ready.
const LOOK: Duration = Duration::from_millis(20);

/// Where the sockets come from.
pub enum Origin {
    /// This process has bound them.
    Bound(Sockets),
    /// A running process will hand them over.
    Running(Claim),
}

impl Origin {
    /// Binds the sockets, so that a port that is taken ends the start at once; or asks the running process for them.
    pub async fn open(settings: &Settings, data_dir: &std::path::Path, upgrade: bool) -> anyhow::Result<Origin> {
        let (public, admin) = (settings.listen.socket(), settings.admin.address);
        if upgrade {
            return Ok(Origin::Running(Claim::open(data_dir, public, admin).await?));
        }
        Ok(Origin::Bound(Sockets {
            public: listeners::bind(public, "public listener")?,
            admin: listeners::bind(admin, "admin listener")?,
        }))
    }

    /// The sockets, once this process is ready when they come from another one; both are waited for.
    async fn sockets(self, services: &Services, wait: Duration) -> anyhow::Result<(Sockets, Option<Claim>)> {
        match self {
            Origin::Bound(sockets) => Ok((sockets, None)),
            Origin::Running(claim) => {
                let ready = async {
                    while !services.readiness.is_ready() {
                        tokio::time::sleep(LOOK).await;
                    }
                };
                if tokio::time::timeout(wait, ready).await.is_err() {
                    anyhow::bail!("--upgrade: this process was not ready within {} s; see its log", wait.as_secs());
                }
                Ok((claim.sockets(wait).await?, Some(claim)))
            }
        }
    }
}

/// Why a process ends without a signal.
pub enum Fate {
    /// The new process with this id accepts; the sockets are its own.
    TakenOver(u32),
    /// Clients are no longer taken, although nobody said so.
    Broken,
}

/// What listens.
pub struct Front {
    /// The public address.
    pub address: SocketAddr,
    /// True: no more clients are taken.
    pub stop: watch::Sender<bool>,
    stop_admin: watch::Sender<bool>,
    service: JoinHandle<()>,
    offer: Option<Offer>,
}

impl Front {
    /// Listens, on the `proxy` threads for clients; from then on a new process may ask for the sockets.
    pub async fn start(
        origin: Origin,
        services: &Arc<Services>,
        settings: &Settings,
        data_dir: PathBuf,
        proxy: &Runtime,
    ) -> anyhow::Result<Front> {
        let wait = settings.drain.upgrade_wait;
        let (sockets, claim) = origin.sockets(services, wait).await?;
        let copies = sockets.copies()?;
        let address = sockets.public.local_addr()?;
        let (name, fds) = listeners::hand_over(sockets.public)?;
        let mut service = services.proxy_service();
        listeners::add_endpoint(&mut service, &name, &settings.listen)?;
        let (stop, stopped) = watch::channel(false);
        let mut service = proxy.spawn(async move { service.start_service(Some(fds), stopped, 1).await });
        if tokio::time::timeout(BUILT_WITHIN, &mut service).await.is_ok() {
            anyhow::bail!("public listener: it could not be started on {address}");
        }
        let stop_admin = watch::Sender::new(false);
        side_listener::serve_admin(sockets.admin, services, stop_admin.subscribe());
        if let Some(claim) = &claim
            && let Err(error) = claim.accepting().await
        {
            tracing::error!(%error, "this process serves all the same"); // the other one has crashed
        }
        let offer = Offer::open(&data_dir, copies, wait, claim.is_some())
            .inspect_err(|error| {
                tracing::warn!(error = format!("{error:#}"), "this process cannot be upgraded in place")
            })
            .ok();
        Ok(Front { address, stop, stop_admin, service, offer })
    }

    /// SIGQUIT: a new process may take over.
    pub fn allow_upgrade(&self) {
        match &self.offer {
            Some(offer) => offer.allow(),
            None => tracing::error!("SIGQUIT: this process cannot be upgraded in place; it goes on"),
        }
    }

    /// Returns when this process has to end without a signal.
    pub async fn fate(&mut self) -> Fate {
        let taken = async {
            match &mut self.offer {
                Some(offer) => offer.taken().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            pid = taken => Fate::TakenOver(pid),
            _ = &mut self.service => Fate::Broken,
        }
    }

    /// Another process answers the operators' questions from now on.
    pub fn leave_admin(&self) {
        self.stop_admin.send_replace(true);
    }

    /// Nobody can take over any more; the public port is free when clients are no longer taken.
    pub async fn withdraw_offer(&mut self) {
        if let Some(offer) = self.offer.take() {
            offer.withdraw().await;
        }
    }
}
