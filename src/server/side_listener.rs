//! The gateway's own pages, `/auth` and the command line's questions on the Unix socket, and the probes on the admin listener.

use std::sync::Arc;

use axum::Router;
use axum::serve::Listener;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use super::services::Services;
use crate::api;

/// Answers pages and `/auth`, for the proxy, and the command line, until the process ends: requests that are drained need them.
pub fn serve_pages(listener: UnixListener, services: &Arc<Services>) {
    let (pages, accounts) = (services.pages.clone(), services.accounts.clone());
    let router = api::router(pages.clone())
        .merge(api::auth::router(accounts.clone()))
        .merge(api::api_keys::router(accounts, pages))
        .merge(api::limits_control::router(services.limits_control.clone()));
    spawn(listener, router, std::future::pending());
}

/// Answers `/livez`, `/readyz` and `/metrics`, also while requests are drained; until `stop`, when another process
/// answers in its place.
pub fn serve_admin(listener: TcpListener, services: &Arc<Services>, mut stop: watch::Receiver<bool>) {
    let router = api::admin_router(services.pages.clone(), services.readiness.clone());
    spawn(listener, router, async move {
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
}

fn spawn<L: Listener>(listener: L, router: Router, stop: impl Future<Output = ()> + Send + 'static)
where
    L::Addr: std::fmt::Debug,
{
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "a side listener ended");
        }
    });
}
