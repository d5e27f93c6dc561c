//! Three stand-ins for the real services, for the `demo` verb and for trying things out. They imitate recorded
//! answers of cv-parser, job-parser and matching (`answers/`), quirks included, and offer nothing else.
//!
//! They know nothing of the gateway: no import from the other rooms, no clock, no environment.

mod cv_parser;
mod job_parser;
mod matching;
mod upload;
mod werkzeug;

use std::io;
use std::net::{IpAddr, SocketAddr};

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Loopback ports to listen on; 0 takes any free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoPorts {
    /// Port of cv-parser.
    pub cv_parser: u16,
    /// Port of job-parser.
    pub job_parser: u16,
    /// Port of matching.
    pub matching: u16,
}

impl DemoPorts {
    /// The ports of the real services; a taken one is replaced by any free one.
    pub const USUAL: DemoPorts = DemoPorts { cv_parser: 5051, job_parser: 5053, matching: 5060 };
    /// Any free ports.
    pub const FREE: DemoPorts = DemoPorts { cv_parser: 0, job_parser: 0, matching: 0 };
}

/// The running services. They end when this is dropped.
#[derive(Debug)]
pub struct DemoHandles {
    /// Where cv-parser listens.
    pub cv_parser: SocketAddr,
    /// Where job-parser listens.
    pub job_parser: SocketAddr,
    /// Where matching listens.
    pub matching: SocketAddr,
    tasks: [JoinHandle<()>; 3],
}

impl Drop for DemoHandles {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Starts the three services on `address`, on the current tokio runtime.
///
/// # Errors
/// When no port of the address can be bound.
pub async fn start(ip: IpAddr, ports: DemoPorts) -> io::Result<DemoHandles> {
    let (cv_parser, cv_task) = serve(ip, ports.cv_parser, cv_parser::router()).await?;
    let (job_parser, job_task) = serve(ip, ports.job_parser, job_parser::router()).await?;
    let (matching, matching_task) = serve(ip, ports.matching, matching::router()).await?;
    Ok(DemoHandles { cv_parser, job_parser, matching, tasks: [cv_task, job_task, matching_task] })
}

async fn serve(ip: IpAddr, port: u16, router: Router) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = bind(ip, port).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%address, %error, "a demo service ended");
        }
    });
    Ok((address, task))
}

async fn bind(ip: IpAddr, port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((ip, port)).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && port != 0 => TcpListener::bind((ip, 0)).await,
        bound => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn a_taken_port_is_replaced() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let handles = start(LOOPBACK, DemoPorts { cv_parser: port, ..DemoPorts::FREE }).await.unwrap();
        assert_ne!(handles.cv_parser.port(), port);
        assert!(handles.cv_parser.ip().is_loopback());
    }

    #[tokio::test]
    async fn each_service_answers_its_probe() {
        let handles = start(LOOPBACK, DemoPorts::FREE).await.unwrap();
        for (address, path) in
            [(handles.cv_parser, "/health"), (handles.job_parser, "/health"), (handles.matching, "/api/v1/health")]
        {
            let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
            assert_eq!(answer.status(), 200);
            let body: serde_json::Value = answer.json().await.unwrap();
            assert_eq!(body["status"], "healthy");
        }
        let root = reqwest::get(format!("http://{}/health", handles.matching)).await.unwrap();
        assert_eq!(root.status(), 404);
        assert_eq!(root.headers()["access-control-allow-origin"], "*");
    }
}
