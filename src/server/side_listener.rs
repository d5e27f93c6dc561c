//! The gateway's own pages and `/auth` on the Unix socket, and the probes on the admin listener.

use std::sync::Arc;

use axum::Router;
use axum::serve::Listener;
use tokio::net::{TcpListener, UnixListener};

use super::services::Services;
use crate::api;

/// Answers pages and `/auth`, for the proxy only.
pub fn serve_pages(listener: UnixListener, services: &Arc<Services>) {
    let (pages, accounts) = (services.pages.clone(), services.accounts.clone());
    let router = api::router(pages.clone())
        .merge(api::auth::router(accounts.clone()))
        .merge(api::api_keys::router(accounts, pages));
    spawn(listener, router);
}

/// Answers `/livez`, `/readyz` and `/metrics`.
pub fn serve_admin(listener: TcpListener, services: &Arc<Services>) {
    let router = api::admin_router(services.pages.clone(), services.readiness.clone());
    spawn(listener, router);
}

/// Serves until the process ends: probes and pages must answer while requests are drained.
fn spawn<L: Listener>(listener: L, router: Router)
where
    L::Addr: std::fmt::Debug,
{
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "a side listener ended");
        }
    });
}
