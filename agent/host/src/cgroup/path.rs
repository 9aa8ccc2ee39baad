//! The name of a cgroup, relative to the roots of the hierarchies.

use std::fmt;

/// Plain components only; the empty path is the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupPath {
    components: Vec<String>,
}

impl CgroupPath {
    /// Parses `/a/b`; none if a component is `.`, `..` or otherwise not a plain name.
    pub fn parse(path: &str) -> Option<Self> {
        let components: Vec<String> = path.split('/').filter(|c| !c.is_empty()).map(str::to_owned).collect();
        components.iter().all(|c| crate::safe_path::is_plain_name(c)).then_some(Self { components })
    }

    /// The child `name`; none if that is not a plain name.
    pub fn child(&self, name: &str) -> Option<Self> {
        crate::safe_path::is_plain_name(name).then(|| {
            let mut components = self.components.clone();
            components.push(name.to_owned());
            Self { components }
        })
    }

    pub fn is_root(&self) -> bool {
        self.components.is_empty()
    }

    pub fn components(&self) -> &[String] {
        &self.components
    }

    /// `a/b`, to be joined to a root.
    pub fn relative(&self) -> String {
        self.components.join("/")
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.relative())
    }
}
