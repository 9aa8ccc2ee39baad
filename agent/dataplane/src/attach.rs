//! Puts the programs where they act, and keeps them there.
//!
//! ```text
//! control group   eight hooks, one pinned link each
//! interface       tcx: two pinned links;  clsact (before 6.6): two filters, found again by priority and handle
//! ```
//! A link that a former agent pinned is kept, and only the program behind it changes, so no packet
//! and no connect() passes in between without a program.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::programs::SchedClassifier;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcHandle};

use crate::bpffs::Pins;
use crate::error::DataplaneError;
use crate::interfaces::Link;
use crate::loader::{Loaded, has_tcx};
use crate::sys::{self, LinkTarget};

/// A hook at the control group.
struct CgroupHook {
    program: &'static str,
    pin: &'static str,
    attach_type: u32,
}

/// `bpf_attach_type` numbers are the kernel's stable ABI.
const CGROUP_HOOKS: [CgroupHook; 8] = [
    // The way back first: an answer must never be seen that the asker can't recognize.
    CgroupHook { program: "orlop_recvmsg4", pin: "recvmsg4", attach_type: 19 },
    CgroupHook { program: "orlop_recvmsg6", pin: "recvmsg6", attach_type: 20 },
    CgroupHook { program: "orlop_peername4", pin: "getpeername4", attach_type: 29 },
    CgroupHook { program: "orlop_peername6", pin: "getpeername6", attach_type: 30 },
    CgroupHook { program: "orlop_connect4", pin: "connect4", attach_type: 10 },
    CgroupHook { program: "orlop_connect6", pin: "connect6", attach_type: 11 },
    CgroupHook { program: "orlop_sendmsg4", pin: "sendmsg4", attach_type: 14 },
    CgroupHook { program: "orlop_sendmsg6", pin: "sendmsg6", attach_type: 15 },
];

const INGRESS: &str = "orlop_ingress";
const EGRESS: &str = "orlop_egress";
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
/// Our filters in a clsact qdisc, so that a later agent finds and replaces them.
const CLSACT_PRIORITY: u16 = 7_701;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 1);

/// Every program that must be in the object.
pub(crate) const PROGRAMS: [&str; 10] = [
    "orlop_recvmsg4",
    "orlop_recvmsg6",
    "orlop_peername4",
    "orlop_peername6",
    "orlop_connect4",
    "orlop_connect6",
    "orlop_sendmsg4",
    "orlop_sendmsg6",
    INGRESS,
    EGRESS,
];

/// A side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcHook {
    Ingress,
    Egress,
}

/// What a program made of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketRun {
    /// What the program returned: -1 for the next one, 2 for a drop, 7 for a redirect.
    pub verdict: i32,
    /// The packet after.
    pub packet: Vec<u8>,
    /// Mean time of a run.
    pub mean_ns: u32,
}

/// Whether a hook had to be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attached {
    /// It was there with this program.
    Kept,
    /// It was there with the program of another agent.
    Updated,
    /// It was not there.
    Created,
}

/// The programs, and where they are attached.
pub(crate) struct Attachments {
    loaded: Loaded,
    programs: BTreeMap<&'static str, (OwnedFd, u32)>,
    cgroup: File,
    cgroup_path: PathBuf,
}

impl Attachments {
    pub(crate) fn new(loaded: Loaded, cgroup_path: &Path) -> Result<Self, DataplaneError> {
        let cgroup = File::open(cgroup_path).map_err(|source| DataplaneError::Path {
            operation: "opening the control group",
            path: cgroup_path.to_owned(),
            source,
        })?;
        let programs = PROGRAMS
            .into_iter()
            .map(|name| Ok((name, loaded.program(name)?)))
            .collect::<Result<_, DataplaneError>>()?;
        Ok(Self { loaded, programs, cgroup, cgroup_path: cgroup_path.to_owned() })
    }

    /// Attaches every hook of the control group that isn't; how many had to be created.
    pub(crate) fn ensure_cgroup(&self, pins: &Pins) -> Result<usize, DataplaneError> {
        let attach_error = |program, source| DataplaneError::Attach {
            program,
            target: self.cgroup_path.display().to_string(),
            source,
        };
        let mut created = 0;
        for hook in &CGROUP_HOOKS {
            let attached = self
                .cgroup
                .metadata()
                .and_then(|metadata| {
                    let target = Target { cgroup_id: metadata.ino(), interface: 0 };
                    let link_target = LinkTarget::Cgroup(self.cgroup.as_fd());
                    self.ensure_link(hook.program, &pins.link(hook.pin), link_target, target, hook.attach_type)
                })
                .map_err(|source| attach_error(hook.program, source))?;
            created += usize::from(attached == Attached::Created);
        }
        Ok(created)
    }

    /// Attaches both tc programs to an interface; how many had to be created.
    pub(crate) fn ensure_interface(&mut self, pins: &Pins, name: &str, link: &Link) -> Result<usize, DataplaneError> {
        let mut created = 0;
        for (program, attach_type, direction) in
            // The way back first, as above.
            [(EGRESS, TCX_EGRESS, TcAttachType::Egress), (INGRESS, TCX_INGRESS, TcAttachType::Ingress)]
        {
            let attached = if has_tcx() {
                let pin = pins.link(&tcx_pin(link.index, attach_type));
                let target = Target { cgroup_id: 0, interface: link.index };
                self.ensure_link(program, &pin, LinkTarget::Interface(link.index), target, attach_type)
            } else {
                self.ensure_filter(program, name, direction)
            };
            let attached =
                attached.map_err(|source| DataplaneError::Attach { program, target: name.to_owned(), source })?;
            created += usize::from(attached == Attached::Created);
        }
        Ok(created)
    }

    pub(crate) fn run_packet(&self, hook: TcHook, interface: u32, packet: &[u8], repeat: u32) -> io::Result<PacketRun> {
        let program = if hook == TcHook::Ingress { INGRESS } else { EGRESS };
        let Some((fd, _)) = self.programs.get(program) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, program));
        };
        sys::test_run(fd.as_fd(), interface, packet, repeat)
    }

    /// Takes both tc programs off an interface that exists, or forgets one that is gone.
    pub(crate) fn detach_interface(&self, pins: &Pins, name: &str, index: u32) {
        for (attach_type, direction) in [(TCX_INGRESS, TcAttachType::Ingress), (TCX_EGRESS, TcAttachType::Egress)] {
            // Either may be missing: the interface may be gone, and with it all that hung on it.
            if has_tcx() {
                drop(std::fs::remove_file(pins.link(&tcx_pin(index, attach_type))));
            } else if let Ok(link) =
                SchedClassifierLink::attached(name, direction, CLSACT_PRIORITY, CLSACT_HANDLE, None)
            {
                // Dropping an owned filter link takes the filter away.
                drop(link);
            }
        }
    }

    fn ensure_link(
        &self,
        program: &'static str,
        pin: &Path,
        link_target: LinkTarget<'_>,
        target: Target,
        attach_type: u32,
    ) -> io::Result<Attached> {
        let Some((fd, id)) = self.programs.get(program) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, program));
        };
        if let Some(link) = sys::pinned(pin)? {
            let info = sys::link_info(link.as_fd())?;
            if target.is(info) {
                if info.program_id == *id {
                    return Ok(Attached::Kept);
                }
                sys::link_update(link.as_fd(), fd.as_fd())?;
                return Ok(Attached::Updated);
            }
            // Detached by somebody, or of a control group or interface that is gone.
            std::fs::remove_file(pin)?;
        }
        let link = sys::link_create(fd.as_fd(), link_target, attach_type)?;
        sys::pin(link.as_fd(), pin)?;
        Ok(Attached::Created)
    }

    fn ensure_filter(
        &mut self,
        program: &'static str,
        interface: &str,
        direction: TcAttachType,
    ) -> io::Result<Attached> {
        // Present already is fine, whoever added it.
        drop(tc::qdisc_add_clsact(interface));
        let classifier: &mut SchedClassifier = self
            .loaded
            .object
            .program_mut(program)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, program))?
            .try_into()
            .map_err(io::Error::other)?;
        let known = SchedClassifierLink::attached(interface, direction, CLSACT_PRIORITY, CLSACT_HANDLE, None)?;
        let (id, attached) = match classifier.attach_to_link(known) {
            Ok(id) => (id, Attached::Updated),
            Err(_) => {
                let options = NlOptions { priority: CLSACT_PRIORITY, handle: CLSACT_HANDLE, classid: None };
                let id = classifier
                    .attach_with_options(interface, direction, TcAttachOptions::Netlink(options))
                    .map_err(io::Error::other)?;
                (id, Attached::Created)
            }
        };
        // The filter stays when this process ends: forget the owner that would remove it.
        std::mem::forget(classifier.take_link(id).map_err(io::Error::other)?);
        Ok(attached)
    }
}

/// What a link should say that it is attached to.
#[derive(Clone, Copy)]
struct Target {
    cgroup_id: u64,
    interface: u32,
}

impl Target {
    fn is(&self, info: sys::LinkInfo) -> bool {
        if self.interface != 0 { info.interface == self.interface } else { info.cgroup_id == self.cgroup_id }
    }
}

fn tcx_pin(index: u32, attach_type: u32) -> String {
    let direction = if attach_type == TCX_INGRESS { "ingress" } else { "egress" };
    format!("tcx-{direction}-{index}")
}

/// The interface that a tcx pin belongs to.
pub(crate) fn interface_of_pin(pin: &str) -> Option<u32> {
    pin.strip_prefix("tcx-ingress-").or_else(|| pin.strip_prefix("tcx-egress-"))?.parse().ok()
}
