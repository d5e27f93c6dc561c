//! The sockets: bound before anything else starts, so that a port that is taken ends the start with a clear message.

use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use pingora::listeners::tls::TlsSettings;
use pingora::server::{Fds, ListenFds};
use pingora::services::listening::Service;
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::connection_guard::Guarded;
use crate::config::settings::Listen;

/// Longest queue of connections that wait to be accepted; the kernel caps it further.
const BACKLOG: u32 = 65_535;
/// Longest path of a Unix socket, in bytes (`sun_path`).
const UNIX_PATH_MAX: usize = 107;

/// Binds a TCP socket.
pub fn bind(address: SocketAddr, purpose: &str) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{purpose}: {address} is taken by another process; stop it or choose another port ({})",
            if purpose.starts_with("admin") { "admin.address in gateway.yaml" } else { "PORT or listen.port" }
        ),
        _ => anyhow::anyhow!("{purpose}: cannot listen on {address}: {error}"),
    })
}

/// The public socket in the form Pingora takes it over, under the text that names it there.
pub fn hand_over(listener: TcpListener) -> anyhow::Result<(String, ListenFds)> {
    let name = listener.local_addr()?.to_string();
    let mut fds = Fds::new();
    fds.add(name.clone(), listener.into_std()?.into_raw_fd());
    Ok((name, Arc::new(Mutex::new(fds))))
}

/// Adds the public endpoint to Pingora's service.
pub fn add_endpoint(service: &mut Service<Guarded>, name: &str, listen: &Listen) -> anyhow::Result<()> {
    let Some(tls) = &listen.tls else {
        service.add_tcp(name);
        return Ok(());
    };
    let text = |path: &Path| path.to_str().map(str::to_owned).context("certificate paths must be UTF-8");
    let mut settings = TlsSettings::intermediate(&text(&tls.cert)?, &text(&tls.key)?)
        .map_err(|error| anyhow::anyhow!("listen.tls: {error}"))?;
    if listen.http2 {
        settings.enable_h2(); // offered beside HTTP/1.1
    }
    service.add_tls_with_settings(name, None, settings);
    Ok(())
}

/// The side-listener's Unix socket: only this process's user may connect, and it is removed at the end.
pub struct SideSocket {
    /// Where it is.
    pub path: PathBuf,
    /// The socket; taken by the server that answers on it.
    pub listener: Option<UnixListener>,
}

impl SideSocket {
    /// Binds it in the data folder.
    pub fn bind(data_dir: &Path) -> anyhow::Result<SideSocket> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = data_dir.canonicalize().with_context(|| format!("data folder {}", data_dir.display()))?;
        let path = folder.join(format!("side-{}.sock", std::process::id()));
        if path.as_os_str().len() > UNIX_PATH_MAX {
            bail!(
                "the data folder's path is too long for a Unix socket ({} bytes, at most {UNIX_PATH_MAX}): {}; choose a shorter --data-dir",
                path.as_os_str().len(),
                path.display()
            );
        }
        let _ = std::fs::remove_file(&path); // left by a process that had our number and was killed
        let listener = UnixListener::bind(&path).with_context(|| format!("side-listener socket {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(SideSocket { path, listener: Some(listener) })
    }
}

impl Drop for SideSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
