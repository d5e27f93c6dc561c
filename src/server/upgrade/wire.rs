//! What the two processes say to each other: a JSON object per line, one of them with the sockets.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Version of this conversation.
pub(super) const PROTOCOL: u32 = 1;
/// Longest line, in bytes.
const LONGEST: usize = 4_096;

/// What one says to the other, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Word {
    /// The old process: who it is.
    Here { protocol: u32, pid: u32, version: String, public: SocketAddr, admin: SocketAddr },
    /// The new process: everything but the sockets is there.
    Prepared { version: String },
    /// The old process: the sockets come with this.
    Sockets,
    /// The new process: it accepts.
    Accepting,
}

/// Says one thing; the sockets, if there are any, go along.
pub(super) async fn say(to: &UnixStream, word: &Word, sockets: &[OwnedFd]) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    let mut sent = 0;
    while let Some(rest) = line.get(sent..).filter(|rest| !rest.is_empty()) {
        let first = sent == 0;
        sent += to.async_io(Interest::WRITABLE, || send(to, rest, if first { sockets } else { &[] })).await?;
    }
    Ok(())
}

fn send(to: &UnixStream, bytes: &[u8], sockets: &[OwnedFd]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "too many sockets"));
    }
    Ok(rustix::net::sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Hears one thing, and the sockets that came with it. The end of the other process is an error.
pub(super) async fn hear(from: &UnixStream) -> io::Result<(Word, Vec<OwnedFd>)> {
    let (mut line, mut sockets) = (Vec::new(), Vec::new());
    while !line.ends_with(b"\n") {
        let count = from.async_io(Interest::READABLE, || receive(from, &mut line, &mut sockets)).await?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "it ended"));
        }
        if line.len() > LONGEST {
            return Err(io::Error::new(ErrorKind::InvalidData, "it said too much"));
        }
    }
    let word = serde_json::from_slice(&line)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it said something that this version does not know"))?;
    Ok((word, sockets))
}

/// The two take turns, so nothing of a next line is read.
fn receive(from: &UnixStream, line: &mut Vec<u8>, sockets: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; LONGEST];
    // CMSG_CLOEXEC: no child process gets the sockets.
    let got = rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    line.extend_from_slice(bytes.get(..got.bytes).unwrap_or_default());
    Ok(got.bytes)
}
