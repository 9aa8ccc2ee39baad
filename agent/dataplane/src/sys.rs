//! Calls into the kernel that no crate here wraps: bpf links by descriptor, pins, and two helpers.
//!
//! Links are made and updated by hand, so that a pinned link of a former agent is adopted in the same way
//! for every hook, and stays attached when this process ends.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::attach::PacketRun;

const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
const SO_NETNS_COOKIE: libc::c_int = 71;

/// `bpf_attr` of the commands here; each uses a prefix of 64 bytes, the rest must be zero.
#[repr(C, align(8))]
struct Attr([u32; 16]);

impl Attr {
    fn new() -> Self {
        Self([0; 16])
    }

    fn word(mut self, index: usize, value: u32) -> Self {
        self.0[index] = value;
        self
    }

    fn pointer(mut self, index: usize, value: u64) -> Self {
        let bytes = value.to_ne_bytes();
        self.0[index] = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        self.0[index + 1] = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        self
    }

    fn fd(self, index: usize, fd: BorrowedFd<'_>) -> Self {
        // A descriptor is never negative, so its bits are the same unsigned.
        self.word(index, u32::from_ne_bytes(fd.as_raw_fd().to_ne_bytes()))
    }
}

/// # Safety
/// Pointers in `attr` are valid for what the command does with them.
unsafe fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: the attribute block lives through the call and is as long as told; the caller vouches for
    // pointers inside.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, mem::size_of::<Attr>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

/// # Safety
/// As for [`bpf`], and the command returns a new descriptor.
unsafe fn bpf_fd(command: libc::c_int, attr: &mut Attr) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for the pointers.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: the kernel just gave us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// What a link is attached to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinkTarget<'a> {
    /// A control group.
    Cgroup(BorrowedFd<'a>),
    /// An interface of this thread's network namespace.
    Interface(u32),
}

/// Attaches a program; it stays attached while the link is open or pinned.
pub(crate) fn link_create(program: BorrowedFd<'_>, target: LinkTarget<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    let attr = Attr::new().fd(0, program).word(2, attach_type);
    let mut attr = match target {
        LinkTarget::Cgroup(fd) => attr.fd(1, fd),
        LinkTarget::Interface(index) => attr.word(1, index),
    };
    // SAFETY: no pointers.
    unsafe { bpf_fd(BPF_LINK_CREATE, &mut attr) }
}

/// Puts another program behind a link, in one step for the traffic.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr::new().fd(0, link).fd(1, program);
    // SAFETY: no pointers.
    unsafe { bpf(BPF_LINK_UPDATE, &mut attr) }.map(drop)
}

/// The part of `bpf_link_info` that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// Of the program behind it.
    pub(crate) program_id: u32,
    /// Control group id (the folder's inode number) for cgroup links; 0 when that is gone.
    pub(crate) cgroup_id: u64,
    /// Interface index for tcx links; 0 when that is gone.
    pub(crate) interface: u32,
}

/// Asks what a link is attached to.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = Attr([0; 16]);
    let length = u32::try_from(mem::size_of::<Attr>()).map_err(io::Error::other)?;
    let mut attr = Attr::new().fd(0, link).word(1, length).pointer(2, (&raw mut info).addr() as u64);
    // SAFETY: the pointer is to `info`, which is as long as told and outlives the call; every bit pattern is
    // valid in it.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    let words = info.0;
    Ok(LinkInfo {
        program_id: words[2],
        cgroup_id: u64::from(words[4]) | (u64::from(words[5]) << 32),
        interface: words[4],
    })
}

/// Gives an object a name in a bpffs.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = Attr::new().pointer(0, path.as_ptr().addr() as u64).fd(2, object);
    // SAFETY: the pointer is to a terminated string that outlives the call.
    unsafe { bpf(BPF_OBJ_PIN, &mut attr) }.map(drop)
}

/// Opens a pinned object; `None` where there is none.
pub(crate) fn pinned(path: &Path) -> io::Result<Option<OwnedFd>> {
    let path = c_path(path)?;
    let mut attr = Attr::new().pointer(0, path.as_ptr().addr() as u64);
    // SAFETY: the pointer is to a terminated string that outlives the call.
    match unsafe { bpf_fd(BPF_OBJ_GET, &mut attr) } {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs a tc program on a packet at an interface of this thread's network namespace.
pub(crate) fn test_run(program: BorrowedFd<'_>, interface: u32, packet: &[u8], repeat: u32) -> io::Result<PacketRun> {
    /// Words of `__sk_buff` up to `ifindex`, the last one.
    const CONTEXT_WORDS: usize = 11;
    /// Room for what a program may add.
    const GROWTH: usize = 256;
    let length = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
    let mut context = [0_u32; CONTEXT_WORDS];
    context[CONTEXT_WORDS - 1] = interface;
    let mut output = vec![0_u8; packet.len() + GROWTH];
    let mut attr = Attr::new()
        .fd(0, program)
        .word(2, length(packet.len())?)
        .word(3, length(output.len())?)
        .pointer(4, packet.as_ptr().addr() as u64)
        .pointer(6, output.as_mut_ptr().addr() as u64)
        .word(8, repeat)
        .word(10, length(mem::size_of_val(&context))?)
        .pointer(12, context.as_ptr().addr() as u64);
    // SAFETY: the pointers are to locals that outlive the call, each as long as told; the kernel writes to
    // the output only.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr) }?;
    output.truncate(usize::try_from(attr.0[3]).map_err(io::Error::other)?);
    Ok(PacketRun { verdict: attr.0[1].cast_signed(), packet: output, mean_ns: attr.0[9] })
}

/// The kernel's name for this thread's network namespace (kernel 5.14).
pub(crate) fn netns_cookie() -> io::Result<u64> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(mem::size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: both pointers are to locals, and the length is the value's.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Waits until no program runs that started before the call: membarrier's global command waits for an RCU
/// grace period, and programs run inside of one.
pub(crate) fn wait_for_running_programs() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
