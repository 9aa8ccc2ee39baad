//! Waiting for a process that need not be a child, without polling.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::io::unix::AsyncFd;

/// A handle on one process, immune to its number being used again (`pidfd_open`, Linux 5.3).
#[derive(Debug)]
pub struct PidFd {
    fd: AsyncFd<OwnedFd>,
}

impl PidFd {
    /// `ESRCH` where no such process is.
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        let raw = i32::try_from(raw).map_err(io::Error::other)?;
        // SAFETY: the call above succeeded, so `raw` is an open descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: the descriptor belongs to the value that is registered, and stays open as long as that lives.
        let fd = unsafe { AsyncFd::register(fd)? };
        Ok(Self { fd })
    }

    /// Returns when the process has ended.
    pub async fn exited(&self) -> io::Result<()> {
        self.fd.readable().await.map(|_| ())
    }

    /// Sends a signal to exactly this process.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo is allowed, and the descriptor is open as long as `self` lives.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.get_ref().as_raw_fd(), signal, info, 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_of_the_end_of_any_process() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let fd = PidFd::open(pid).unwrap();
        assert!(tokio::time::timeout(std::time::Duration::from_millis(50), fd.exited()).await.is_err());
        fd.signal(libc::SIGKILL).unwrap();
        fd.exited().await.unwrap();
        child.wait().unwrap();
        assert!(PidFd::open(pid).is_err());
    }
}
