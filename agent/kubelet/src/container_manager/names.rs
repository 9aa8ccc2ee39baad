//! Where a pod's cgroup stands, in the words of either driver.

use orlop_host::cgroup::CgroupPath;

use super::{CgroupDriver, QosClass};

/// The node's pods tree; upstream's name.
const KUBEPODS: &str = "kubepods";
const POD_PREFIX: &str = "pod";

/// Works out cgroup paths for one node configuration.
#[derive(Clone, Debug)]
pub(super) struct CgroupNames {
    driver: CgroupDriver,
    /// Components of `cgroupRoot`, not yet in the driver's words.
    root: Vec<String>,
}

impl CgroupNames {
    pub(super) fn new(driver: CgroupDriver, cgroup_root: &str) -> Option<Self> {
        let root = CgroupPath::parse(cgroup_root)?.components().to_vec();
        Some(Self { driver, root })
    }

    /// `cgroupRoot` itself.
    pub(super) fn root(&self) -> CgroupPath {
        self.place(self.root.iter().map(String::as_str))
    }

    /// `/kubepods`.
    pub(super) fn kubepods(&self) -> CgroupPath {
        self.path(&[])
    }

    /// The tree of a QoS class; Guaranteed pods stand in `/kubepods` itself.
    pub(super) fn qos(&self, class: QosClass) -> CgroupPath {
        match qos_component(class) {
            Some(name) => self.path(&[name]),
            None => self.path(&[]),
        }
    }

    /// The cgroup of a pod; none if its UID is not a plain name.
    pub(super) fn pod(&self, class: QosClass, uid: &str) -> Option<CgroupPath> {
        if !orlop_host::safe_path::is_plain_name(uid) {
            return None;
        }
        let name = format!("{POD_PREFIX}{uid}");
        Some(match qos_component(class) {
            Some(qos) => self.path(&[qos, &name]),
            None => self.path(&[&name]),
        })
    }

    /// `cgroup_parent` of CRI: the whole path for cgroupfs, the slice's name alone for systemd.
    pub(super) fn cri_parent(&self, path: &CgroupPath) -> String {
        match self.driver {
            CgroupDriver::Cgroupfs => path.to_string(),
            CgroupDriver::Systemd => path.components().last().cloned().unwrap_or_default(),
        }
    }

    /// The UID in the name of a directory of a pod, if it is one.
    pub(super) fn uid_of(&self, directory: &str) -> Option<String> {
        match self.driver {
            CgroupDriver::Cgroupfs => Some(directory.strip_prefix(POD_PREFIX)?.to_owned()),
            CgroupDriver::Systemd => {
                let last = directory.strip_suffix(".slice")?.rsplit('-').next()?;
                Some(last.strip_prefix(POD_PREFIX)?.replace('_', "-"))
            }
        }
        .filter(|uid| !uid.is_empty())
    }

    fn path(&self, below: &[&str]) -> CgroupPath {
        self.place(self.root.iter().map(String::as_str).chain([KUBEPODS]).chain(below.iter().copied()))
    }

    fn place<'a>(&self, logical: impl Iterator<Item = &'a str>) -> CgroupPath {
        let components: Vec<String> = match self.driver {
            CgroupDriver::Cgroupfs => logical.map(str::to_owned).collect(),
            CgroupDriver::Systemd => slices(logical),
        };
        let mut path = CgroupPath::default();
        for component in &components {
            // Every component was a plain name before, and slices only add to them.
            if let Some(child) = path.child(component) {
                path = child;
            }
        }
        path
    }
}

fn qos_component(class: QosClass) -> Option<&'static str> {
    match class {
        QosClass::Guaranteed => None,
        QosClass::Burstable => Some("burstable"),
        QosClass::BestEffort => Some("besteffort"),
    }
}

/// systemd nests slices by their names: `a.slice/a-b.slice/a-b-c.slice`; a `-` inside a component becomes `_`.
fn slices<'a>(logical: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut name = String::new();
    logical
        .map(|component| {
            if !name.is_empty() {
                name.push('-');
            }
            name.push_str(&component.replace('-', "_"));
            format!("{name}.slice")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams() {
        let fs = CgroupNames::new(CgroupDriver::Cgroupfs, "/").unwrap();
        let systemd = CgroupNames::new(CgroupDriver::Systemd, "").unwrap();
        let check = |names: &CgroupNames, class, path: &str, parent: &str| {
            let got = names.pod(class, "1-2").unwrap();
            assert_eq!((got.to_string().as_str(), names.cri_parent(&got).as_str()), (path, parent));
            assert_eq!(names.uid_of(got.components().last().unwrap()).as_deref(), Some("1-2"));
        };
        check(&fs, QosClass::Guaranteed, "/kubepods/pod1-2", "/kubepods/pod1-2");
        check(&fs, QosClass::Burstable, "/kubepods/burstable/pod1-2", "/kubepods/burstable/pod1-2");
        check(
            &systemd,
            QosClass::BestEffort,
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice",
            "kubepods-besteffort-pod1_2.slice",
        );
        check(&systemd, QosClass::Guaranteed, "/kubepods.slice/kubepods-pod1_2.slice", "kubepods-pod1_2.slice");
        let rooted = CgroupNames::new(CgroupDriver::Cgroupfs, "/orlop/t1").unwrap();
        check(&rooted, QosClass::Guaranteed, "/orlop/t1/kubepods/pod1-2", "/orlop/t1/kubepods/pod1-2");
    }

    #[test]
    fn what_is_no_pod_is_not_taken_for_one() {
        let fs = CgroupNames::new(CgroupDriver::Cgroupfs, "/").unwrap();
        let systemd = CgroupNames::new(CgroupDriver::Systemd, "/").unwrap();
        for name in ["burstable", "besteffort", "pod", "cri-containerd-1.scope"] {
            assert_eq!(fs.uid_of(name), None, "{name}");
        }
        for name in ["kubepods-burstable.slice", "init.scope", "kubepods-pod.slice"] {
            assert_eq!(systemd.uid_of(name), None, "{name}");
        }
        assert_eq!(fs.pod(QosClass::Burstable, "../x"), None);
        assert!(CgroupNames::new(CgroupDriver::Cgroupfs, "/a/../b").is_none());
    }
}
