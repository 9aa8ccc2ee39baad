//! Kernel parameters under `/proc/sys`.

use std::io;
use std::path::PathBuf;

/// `net.ipv4.ip_forward` or `net/ipv4/conf/eth0.1/forwarding` to its file; a slash form keeps dots in names.
fn path(name: &str) -> io::Result<PathBuf> {
    let relative = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let plain = relative.split('/').all(crate::safe_path::is_plain_name);
    if !plain {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is no kernel parameter")));
    }
    Ok(PathBuf::from("/proc/sys").join(relative))
}

/// The value, without the newline.
pub fn get(name: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(path(name)?)?.trim_end().to_owned())
}

/// Sets a value; writes nothing if it is that already.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    if get(name).is_ok_and(|current| current == value) {
        return Ok(());
    }
    std::fs::write(path(name)?, value)
}

/// Lets packets travel between interfaces, in both families; IPv6 only where the kernel has it.
pub fn enable_forwarding() -> io::Result<()> {
    set("net.ipv4.ip_forward", "1")?;
    match set("net.ipv6.conf.all.forwarding", "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_paths_below_proc_sys() {
        assert!(super::get("kernel.ostype").is_ok_and(|v| v == "Linux"));
        assert!(super::get("kernel/ostype").is_ok());
        assert!(super::get("kernel/../../1/environ").is_err());
        assert!(super::set("", "1").is_err());
    }
}
