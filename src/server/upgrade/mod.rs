//! A new process takes the listening sockets over from the running one, without a moment in which nobody accepts.
//!
//! The running process ([`Offer`]) answers on `upgrade.sock` in the data folder; the new one ([`Claim`]) asks there, and
//! builds everything it needs. When it is ready and SIGQUIT was sent to the old one, in whatever order, the sockets
//! themselves go over (`SCM_RIGHTS`, unix(7)), so what waits in their queues goes with them. The old process accepts
//! until the new one does, and goes on when that never comes about.

mod claim;
mod offer;
mod wire;

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::net::TcpListener;

pub use claim::Claim;
pub use offer::Offer;

/// Name of the socket in the data folder.
const NAME: &str = "upgrade.sock";

/// The two listening sockets of a process.
pub struct Sockets {
    /// Of clients.
    pub public: TcpListener,
    /// Of operators.
    pub admin: TcpListener,
}

/// A second hold of the same sockets, to be given away.
pub struct Copies {
    fds: [OwnedFd; 2],
    public: SocketAddr,
    admin: SocketAddr,
}

impl Sockets {
    /// Holds them a second time.
    pub fn copies(&self) -> std::io::Result<Copies> {
        Ok(Copies {
            fds: [self.public.as_fd().try_clone_to_owned()?, self.admin.as_fd().try_clone_to_owned()?],
            public: self.public.local_addr()?,
            admin: self.admin.local_addr()?,
        })
    }
}

/// Where the socket is; absolute, so that it is the same for processes with other working directories.
fn place(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let folder = data_dir.canonicalize().with_context(|| format!("data folder {}", data_dir.display()))?;
    Ok(folder.join(NAME))
}
