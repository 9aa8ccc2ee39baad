use super::*;
use crate::mounts::parse;

#[test]
fn hierarchies_are_found_in_mountinfo() {
    let check = |text: &str, version| {
        let found = Hierarchies::from_mounts(&parse(text.as_bytes())).unwrap();
        assert_eq!(found.version(), version);
        found
    };
    let hybrid = check(
        "1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
         2 0 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
         3 0 0:2 /x /other/m rw - cgroup cgroup rw,memory\n\
         4 0 0:3 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
         5 0 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        CgroupVersion::V1,
    );
    let path = CgroupPath::parse("/kubepods/pod1").unwrap();
    assert_eq!(hybrid.dir("cpuacct", &path).unwrap(), Path::new("/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1"));
    assert_eq!(hybrid.dir("pids", &path), None);
    assert_eq!(hybrid.dirs(&path).len(), 4);
    check("1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", CgroupVersion::V2);
    check(
        "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n2 0 0:3 / /sys/fs/cgroup/systemd rw - cgroup c rw,name=systemd\n",
        CgroupVersion::V2,
    );
    assert!(Hierarchies::from_mounts(&[]).is_err());
}

#[test]
fn paths_are_plain() {
    assert_eq!(CgroupPath::parse("//a/b/").unwrap().to_string(), "/a/b");
    assert!(CgroupPath::parse("/").unwrap().is_root());
    for bad in ["/a/../b", "..", "/a/./b", "a\0"] {
        assert_eq!(CgroupPath::parse(bad), None, "{bad:?}");
    }
}

/// On the machine's own hierarchies, below a cgroup of this test.
#[test]
fn a_cgroup_lives_and_dies_on_this_machine() {
    let Ok(hierarchies) = Hierarchies::discover() else {
        return crate::skip("cgroups", "none mounted");
    };
    let top = CgroupPath::parse(&format!("/orlop-test-{}", std::process::id())).unwrap();
    let pod = top.child("pod1").unwrap();
    if let Err(error) = hierarchies.create(&pod) {
        return crate::skip("cgroups", &error.to_string());
    }
    let limits = Limits {
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(100_000),
        memory_bytes: Some(64 << 20),
        pids: Some(100),
        ..Limits::default()
    };
    let missing = hierarchies.apply(&pod, &limits).unwrap();
    assert_eq!(hierarchies.apply(&pod, &limits).unwrap(), missing, "a second time changes nothing");
    if !missing.contains(&"memory") {
        assert_eq!(hierarchies.memory_usage(&pod).unwrap().limit_bytes, Some(64 << 20));
    }
    if !missing.contains(&"pids") {
        assert_eq!(hierarchies.pids_usage(&pod).unwrap().1, Some(100));
    }
    if hierarchies.version() == CgroupVersion::V1 {
        let read = |c, f| std::fs::read_to_string(hierarchies.dir(c, &pod).unwrap().join(f)).unwrap();
        assert_eq!(read("cpu", "cpu.shares").trim(), "512");
        assert_eq!(read("cpu", "cpu.cfs_quota_us").trim(), "50000");
        assert!(!read("cpuset", "cpuset.cpus").trim().is_empty());
    }
    let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    hierarchies.add_process(&pod, sleeper.id()).unwrap();
    assert!(hierarchies.processes(&top).contains(&i32::try_from(sleeper.id()).unwrap()));
    assert!(hierarchies.cpu_usage(&pod).is_some());
    assert!(hierarchies.remove(&top).is_err(), "a cgroup with processes stays");
    assert_eq!(hierarchies.kill(&top).len(), 1);
    sleeper.wait().unwrap();
    hierarchies.remove(&top).unwrap();
    assert!(!hierarchies.exists(&top));
    hierarchies.remove(&top).unwrap();
}
