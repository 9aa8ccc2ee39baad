//! Space and inodes of file systems.

use std::io;
use std::path::Path;

/// What `statfs` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystemStats {
    pub capacity_bytes: u64,
    /// Available to processes without privilege.
    pub available_bytes: u64,
    pub used_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
    pub inodes_used: u64,
}

/// Statistics of the file system that holds `path`.
pub fn stats(path: &Path) -> io::Result<FileSystemStats> {
    let vfs = nix::sys::statvfs::statvfs(path)?;
    let fragment = vfs.fragment_size();
    let bytes = |blocks: u64| blocks.saturating_mul(fragment);
    Ok(FileSystemStats {
        capacity_bytes: bytes(vfs.blocks()),
        available_bytes: bytes(vfs.blocks_available()),
        used_bytes: bytes(vfs.blocks().saturating_sub(vfs.blocks_free())),
        inodes: vfs.files(),
        inodes_free: vfs.files_free(),
        inodes_used: vfs.files().saturating_sub(vfs.files_free()),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_root_has_space() {
        let stats = super::stats(std::path::Path::new("/")).unwrap();
        assert!(stats.capacity_bytes > 0 && stats.available_bytes <= stats.capacity_bytes);
    }
}
