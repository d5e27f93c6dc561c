//! Connections for requests that may become tunnels (`Upgrade: websocket`, RFC 9110 §7.8). They serve one request, and
//! their first bytes are read a little later than they could be.
//!
//! Why later: Pingora (0.9.1, cloudflare/pingora#946) tells its upstream half that the request's body, an empty one, has
//! ended, and takes that for the end of the tunnel when it is heard after the `101`. Both can be ready at once, and then chance
//! decides. A read that is not ready for a few turns of the task leaves the body's end nothing to race with: it is
//! in the pipe after the first turn, and heard in the same one or, when that one's budget was spent, in the next.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;

/// Turns of the task for which the first read after a write is not ready: one would do, if no turn ever ran out of
/// its budget.
const TURNS: u8 = 4;

/// What a request and its connection both know: whether the answer's head has come. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Handshake(Arc<AtomicBool>);

impl Handshake {
    /// The head of the final answer has come, `101` or another.
    pub fn answered(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Makes `peer` one for an upgrade: `within` is the longest until the answer's head has come, `idle` the longest silence
/// of both sides. The connection is new, speaks HTTP/1.1, and is nobody else's.
pub fn prepare(peer: &mut HttpPeer, handshake: &Handshake, within: Duration, idle: Duration) {
    // Kept connections are looked up by this, too.
    peer.group_key = rand::random();
    let options = &mut peer.options;
    options.set_http_version(1, 1);
    options.custom_l4 = Some(Arc::new(Patient { handshake: handshake.clone(), within }));
    options.read_timeout = Some(idle);
    options.write_timeout = Some(idle);
    options.idle_timeout = Some(Duration::ZERO);
}

/// Opens the connections.
#[derive(Debug)]
struct Patient {
    handshake: Handshake,
    within: Duration,
}

#[async_trait]
impl Connect for Patient {
    /// Its time is bounded by the peer's `total_connection_timeout`.
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let socket = match address {
            SocketAddr::Inet(address) => {
                Socket::Tcp(TcpStream::connect(address).await.map_err(|error| refused(&error))?)
            }
            SocketAddr::Unix(address) => {
                let path = address.as_pathname().ok_or_else(|| refused(&io::ErrorKind::InvalidInput.into()))?;
                Socket::Unix(UnixStream::connect(path).await.map_err(|error| refused(&error))?)
            }
        };
        let late = Box::pin(tokio::time::sleep(self.within));
        let connection = Connection { socket, handshake: self.handshake.clone(), turns: TURNS, late };
        Ok(VirtualSocketStream::new(Box::new(connection)).into())
    }
}

fn refused(error: &io::Error) -> Box<Error> {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        _ => ErrorType::ConnectError,
    };
    Error::explain(kind, error.to_string()).into_up()
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection whose first read waits its turns.
#[derive(Debug)]
struct Connection {
    socket: Socket,
    handshake: Handshake,
    /// Turns that the next read still waits.
    turns: u8,
    /// Ends the wait for the answer.
    late: Pin<Box<Sleep>>,
}

/// Runs a method of whichever socket it is.
macro_rules! socket {
    ($connection:expr, $socket:ident => $call:expr) => {
        match &mut $connection.socket {
            Socket::Tcp($socket) => $call,
            Socket::Unix($socket) => $call,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.turns > 0 {
            self.turns -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = socket!(self, socket => Pin::new(socket).poll_read(cx, buf));
        if read.is_pending() && !self.handshake.is_over() {
            ready!(self.late.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.handshake.is_over() {
            self.turns = TURNS;
        }
        socket!(self, socket => Pin::new(socket).poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        socket!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        socket!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }
}

impl VirtualSocket for Connection {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match (&self.socket, option) {
            (Socket::Tcp(socket), VirtualSockOpt::NoDelay) => socket.set_nodelay(true),
            // Pools set no other one.
            _ => Ok(()),
        }
    }
}
