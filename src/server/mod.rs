//! The composition root: builds everything for the life of the process, runs it, and takes it down in order.

mod connection_guard;
mod keys;
mod listeners;
mod reload;
mod services;
mod shutdown;
mod side_listener;
pub mod store;
mod turns;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use pingora::services::Service as _;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::audit::{Actor, Event, EventKind};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::config::settings::Settings;
use crate::telemetry::logging::{self, LogFormat};
use listeners::SideSocket;
use services::Services;
use shutdown::{Signals, Wish};
use turns::Turns;

/// What a start needs.
pub struct Start {
    /// Process settings.
    pub settings: Settings,
    /// The table of routes.
    pub routes: PathBuf,
    /// Folder of the embedded store, generated secrets and the last good table.
    pub data_dir: PathBuf,
    /// Environment for the table's `${NAME}`.
    pub env: Env,
    /// Called once, with the public address, when requests are taken.
    pub on_ready: Option<Box<dyn FnOnce(SocketAddr) + Send>>,
}

/// Threads for everything that is not the proxy: reloads, probes, look-ups, the side-listener.
const CONTROL_THREADS: usize = 2;
/// Longest that the last log lines are waited for.
const FLUSH_AT_MOST: std::time::Duration = std::time::Duration::from_secs(2);

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
    let public = listeners::bind(settings.listen.socket(), "public listener")?;
    let admin = listeners::bind(settings.admin.address, "admin listener")?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&start.data_dir)
        .with_context(|| format!("data folder {}", start.data_dir.display()))?;
    let address = public.local_addr()?;
    let mut side = SideSocket::bind(&start.data_dir)?;
    let services = tokio::select! {
        built = Services::build(&start, &side.path, control.handle().clone()) => Arc::new(built?),
        () = asked_to_end(&mut signals) => return Ok(()), // while the database is waited for
    };
    let (stop, stopped) = watch::channel(false);
    if let Some(listener) = side.listener.take() {
        side_listener::serve_pages(listener, &services);
    }
    side_listener::serve_admin(admin, &services);
    let (name, fds) = listeners::hand_over(public)?;
    let mut service = services.proxy_service();
    listeners::add_endpoint(&mut service, &name, settings.listen.tls.as_ref())?;
    proxy.spawn(async move { service.start_service(Some(fds), stopped, 1).await });
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(%address, admin = %settings.admin.address, version, "gateway is up");
    let of_gateway = |kind, details: String| Event::new(kind).by(Actor::Gateway).saying(details);
    services.audit.record(of_gateway(EventKind::Startup, format!("version {version} on {address}")));
    if let Some(on_ready) = start.on_ready {
        on_ready(address);
    }
    let cut = until_ended(&services, &stop, &mut signals).await;
    let details = format!("version {version} on {address}, {cut} requests cut off");
    services.audit.record(of_gateway(EventKind::Shutdown, details));
    if !services.audit.close(FLUSH_AT_MOST).await {
        tracing::error!("the last audit records could not be written in time");
    }
    services.access_log.flush_and_stop(FLUSH_AT_MOST);
    Ok(())
}

async fn asked_to_end(signals: &mut Signals) {
    while matches!(signals.next().await, Wish::Reload) {}
}

/// Follows the signals until one ends the process. They are heard also while a reload hangs, as on a dead mount.
/// Answers how many requests were cut off.
async fn until_ended(services: &Arc<Services>, stop: &watch::Sender<bool>, signals: &mut Signals) -> usize {
    let mut reloads = Turns::new({
        let services = services.clone();
        move || {
            services.keys.reload();
            let _ = services.reloader.reload(&services.live); // says itself what came of it
        }
    });
    loop {
        let wish = tokio::select! {
            wish = signals.next() => wish,
            () = reloads.ended() => continue,
        };
        match wish {
            Wish::Reload => {
                services.access_log.reopen();
                services.audit.reopen();
                if !reloads.ask() {
                    tracing::warn!("the last reload is still under way, the next one follows it");
                }
            }
            Wish::Drain => {
                tracing::info!("draining");
                let drain = services.drain;
                let cut = shutdown::drain(drain, &services.readiness, stop, &services.connections, signals).await;
                tracing::info!(requests_cut_off = cut, "gateway is down");
                return cut;
            }
            Wish::Stop => {
                let _ = stop.send(true);
                tracing::info!("gateway is down");
                return services.connections.requests();
            }
        }
    }
}
