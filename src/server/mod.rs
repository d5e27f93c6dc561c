//! The composition root: builds everything for the life of the process, runs it, and takes it down in order.

mod connection_guard;
mod front;
mod keys;
mod listeners;
mod persist_limits;
mod reload;
mod services;
mod settings_watch;
mod shutdown;
mod side_listener;
pub mod store;
mod turns;
mod upgrade;
mod whole_file;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use crate::audit::{Actor, Event, EventKind};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::config::settings::Settings;
use crate::telemetry::logging::{self, LogFormat};
use front::{Fate, Front, Origin};
use listeners::SideSocket;
use services::Services;
use settings_watch::SettingsWatch;
use shutdown::{Drain, Signals, Wish};
use turns::Turns;

/// What a start needs.
pub struct Start {
    /// Process settings.
    pub settings: Settings,
    /// Where they were read from, and what was read there, to tell when the file has changed.
    pub settings_file: SettingsFile,
    /// The table of routes.
    pub routes: PathBuf,
    /// Folder of the embedded store, generated secrets and the last good table.
    pub data_dir: PathBuf,
    /// Environment for the table's `${NAME}`.
    pub env: Env,
    /// Whether the sockets are taken over from the running process of the same data folder.
    pub upgrade: bool,
    /// Whether a bad table is replaced by the last good one.
    pub last_good: bool,
    /// Called once, with the public address, when requests are taken.
    pub on_ready: Option<Box<dyn FnOnce(SocketAddr) + Send>>,
}

/// The file of the process settings.
pub struct SettingsFile {
    /// As the command line names it; `None`: the usual one.
    pub path: Option<PathBuf>,
    /// What was read there at the start.
    pub read: Settings,
}

/// Threads for everything that is not the proxy: reloads, probes, look-ups, the side-listener.
const CONTROL_THREADS: usize = 2;
/// Longest that the last log lines are waited for.
const FLUSH_AT_MOST: Duration = Duration::from_secs(2);

/// Runs the gateway until a signal ends it.
pub fn run(start: Start) -> anyhow::Result<()> {
    let level = start.settings.log.level.as_str().parse()?;
    logging::init(level, LogFormat::for_stderr(), Clock::system())?;
    let control = runtime("control", CONTROL_THREADS)?;
    let proxy = runtime("proxy", start.settings.threads)?;
    let outcome = control.block_on(serve(start, &control, &proxy));
    proxy.shutdown_background();
    control.shutdown_background();
    outcome
}

fn runtime(name: &'static str, threads: usize) -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("the {name} threads could not be started"))
}

async fn serve(start: Start, control: &Runtime, proxy: &Runtime) -> anyhow::Result<()> {
    let mut signals = Signals::install().context("signal handlers")?;
    let settings = &start.settings;
    let origin = Origin::open(settings, &start.data_dir, start.upgrade).await?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&start.data_dir)
        .with_context(|| format!("data folder {}", start.data_dir.display()))?;
    let mut side = SideSocket::bind(&start.data_dir)?;
    let services = tokio::select! {
        built = Services::build(&start, &side.path, control.handle().clone()) => Arc::new(built?),
        () = signals.end() => return Ok(()), // while the database is waited for
    };
    if let Some(listener) = side.listener.take() {
        side_listener::serve_pages(listener, &services);
    }
    let mut front = tokio::select! {
        front = Front::start(origin, &services, settings, start.data_dir.clone(), proxy) => front?,
        () = signals.end() => return Ok(()), // while the running process is waited for
    };
    let (version, address) = (env!("CARGO_PKG_VERSION"), front.address);
    services.own_limits(&start.data_dir);
    tracing::info!(%address, admin = %settings.admin.address, version, "gateway is up");
    let of_gateway = |kind, details: String| Event::new(kind).by(Actor::Gateway).saying(details);
    services.audit.record(of_gateway(EventKind::Startup, format!("version {version} on {address}")));
    if let Some(on_ready) = start.on_ready {
        on_ready(address);
    }
    let watch = SettingsWatch::new(start.settings_file, start.env);
    let ended = until_ended(&services, &mut front, watch, &mut signals).await;
    let details = match &ended {
        Ok(end) => format!("version {version} on {address}, {} requests cut off", end.requests_cut_off),
        Err(error) => format!("version {version} on {address}, {error}"),
    };
    if ended.as_ref().is_ok_and(|end| !end.taken_over) {
        services.keep_limits(&start.data_dir); // one that was taken over counted less than its successor by now
    }
    services.audit.record(of_gateway(EventKind::Shutdown, details));
    if !services.audit.close(FLUSH_AT_MOST).await {
        tracing::error!("the last audit records could not be written in time");
    }
    services.access_log.flush_and_stop(FLUSH_AT_MOST);
    ended.map(|_| ())
}

/// How a process ended in order.
#[derive(Debug, Clone, Copy)]
struct End {
    requests_cut_off: usize,
    /// Whether a new process serves in its place.
    taken_over: bool,
}

/// Follows the signals until one ends the process, or a new process has taken over. They are heard also while a reload
/// hangs, as on a dead mount.
async fn until_ended(
    services: &Arc<Services>,
    front: &mut Front,
    watch: SettingsWatch,
    signals: &mut Signals,
) -> anyhow::Result<End> {
    let watch = Arc::new(watch);
    let mut reloads = Turns::new({
        let services = services.clone();
        move || {
            watch.look();
            services.keys.reload();
            let _ = services.reloader.reload(&services.live); // says itself what came of it
        }
    });
    loop {
        let wish = tokio::select! {
            wish = signals.next() => wish,
            () = reloads.ended() => continue,
            fate = front.fate() => match fate {
                Fate::TakenOver(pid) => {
                    tracing::info!(pid, "a new process has taken over, draining");
                    front.leave_admin(); // "not ready" would be said of the address, where the new one answers
                    let drain = Drain { delay: Duration::ZERO, ..services.drain };
                    let requests_cut_off = leave(services, front, drain, signals).await;
                    return Ok(End { requests_cut_off, taken_over: true });
                }
                Fate::Broken => anyhow::bail!("the public listener ended"),
            },
        };
        match wish {
            Wish::Reload => {
                services.access_log.reopen();
                services.audit.reopen();
                if !reloads.ask() {
                    tracing::warn!("the last reload is still under way, the next one follows it");
                }
            }
            Wish::HandOver => front.allow_upgrade(),
            Wish::Drain => {
                tracing::info!("draining");
                services.readiness.set_draining();
                let requests_cut_off = leave(services, front, services.drain, signals).await;
                return Ok(End { requests_cut_off, taken_over: false });
            }
            Wish::Stop => {
                let _ = front.stop.send(true);
                tracing::info!("gateway is down");
                return Ok(End { requests_cut_off: services.connections.requests(), taken_over: false });
            }
        }
    }
}

/// Drains; answers how many requests were cut off.
async fn leave(services: &Arc<Services>, front: &mut Front, drain: Drain, signals: &mut Signals) -> usize {
    front.withdraw_offer().await;
    let cut = shutdown::drain(drain, &front.stop, &services.connections, signals).await;
    tracing::info!(requests_cut_off = cut, "gateway is down");
    cut
}
