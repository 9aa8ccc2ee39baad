//! Tells when interfaces, addresses or default routes of this network namespace change.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const GROUPS: i32 = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;

/// A subscription. What changed isn't read: the listener looks at everything anew.
pub(crate) struct Notifications {
    socket: Option<OwnedFd>,
    /// Made at first use, when a runtime is there.
    ready: Option<AsyncFd<OwnedFd>>,
}

impl Notifications {
    /// Subscribes, in this thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS.cast_unsigned()))?;
        Ok(Self { socket: Some(socket), ready: None })
    }

    /// Waits for a change; several at once count as one.
    pub(crate) async fn next(&mut self) {
        if let Some(socket) = self.socket.take() {
            // SAFETY: the registration owns the descriptor, so it stays open and the same until both go.
            self.ready = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
                .inspect_err(|error| tracing::warn!(%error, "changes of interfaces are noticed in the audit only"))
                .ok();
        }
        let Some(ready) = &self.ready else { return std::future::pending().await };
        loop {
            let Ok(mut guard) = ready.readable().await else { return std::future::pending().await };
            if drain(ready.get_ref()) {
                return;
            }
            guard.clear_ready();
        }
    }
}

/// Whether there was anything. An overrun (ENOBUFS) is news too.
fn drain(socket: &OwnedFd) -> bool {
    let mut buffer = [0; 4096];
    let mut any = false;
    loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(Errno::ENOBUFS) => any = true,
            Err(Errno::EINTR) => {}
            Err(_) => return any,
        }
    }
}
