//! Image references: `[registry/]path[:tag][@digest]`, checked and completed with `:latest`.

/// Why a reference is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("repository name must not be longer than 255 characters")]
    TooLong,
}

/// A reference in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `docker.io` where none is named.
    pub registry: String,
    /// Path below the registry, with Docker's implied `library/`.
    pub path: String,
    /// What to ask the runtime for: as written, with `:latest` where neither tag nor digest is given.
    pub normalized: String,
}

/// Parses a reference.
pub fn parse(image: &str) -> Result<Reference, ReferenceError> {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err(ReferenceError::Format);
    }
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) || name.is_empty() {
        return Err(ReferenceError::Format);
    }
    if name.len() > 255 {
        return Err(ReferenceError::TooLong);
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => {
            (first.to_owned(), path.to_owned())
        }
        Some(_) => ("docker.io".to_owned(), name.to_owned()),
        None => ("docker.io".to_owned(), format!("library/{name}")),
    };
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(ReferenceError::Uppercase(name.to_owned()));
    }
    if !path.split('/').all(is_component) || !is_host(&registry) {
        return Err(ReferenceError::Format);
    }
    let normalized = if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() };
    Ok(Reference { registry, path, normalized })
}

fn is_tag(tag: &str) -> bool {
    let mut chars = tag.chars();
    tag.len() <= 128
        && chars.next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty()
            && algorithm.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-' | '_'))
            && hex.len() >= 32
            && hex.chars().all(|c| c.is_ascii_hexdigit())
    })
}

fn is_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(alphanumeric)
        && component.ends_with(alphanumeric)
        && component.chars().all(|c| alphanumeric(c) || matches!(c, '.' | '_' | '-'))
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':'))
        && port.is_none_or(|port| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let check = |image: &str, registry: &str, path: &str, normalized: &str| {
            let parsed = parse(image).unwrap_or_else(|error| panic!("{image}: {error}"));
            assert_eq!((parsed.registry.as_str(), parsed.path.as_str()), (registry, path), "{image}");
            assert_eq!(parsed.normalized, normalized);
        };
        check("busybox", "docker.io", "library/busybox", "busybox:latest");
        check("a/b:1", "docker.io", "a/b", "a/b:1");
        check("localhost:5000/a/b", "localhost:5000", "a/b", "localhost:5000/a/b:latest");
        check("quay.io/x/y_z:v1.2-3", "quay.io", "x/y_z", "quay.io/x/y_z:v1.2-3");
        let digest = format!("r.io/x@sha256:{}", "a".repeat(64));
        check(&digest, "r.io", "x", &digest);
    }

    #[test]
    fn bad_references() {
        for image in ["", ":tag", "a b", "a//b", "x@sha256:zz", "a:b c", "-x", "a/", "/a", "x:"] {
            assert_eq!(parse(image), Err(ReferenceError::Format), "{image:?}");
        }
        assert!(matches!(parse("FooBar"), Err(ReferenceError::Uppercase(_))));
        assert!(matches!(parse(&"a".repeat(256)), Err(ReferenceError::TooLong)));
    }
}
