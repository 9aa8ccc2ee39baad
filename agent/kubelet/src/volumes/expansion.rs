//! `$(NAME)` in strings of a Pod: upstream's third_party/forked expansion syntax.

/// Expands every `$(NAME)`; `$$` is one `$`, and what is no reference stays as it is. The error names the variable that
/// has no value.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            out.push_str(&lookup(name).ok_or_else(|| name.to_owned())?);
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded() {
        let lookup = |name: &str| (name == "A").then(|| "x".to_owned());
        for (text, want) in [
            ("plain", Ok("plain")),
            ("$(A)/$(A)", Ok("x/x")),
            ("$$(A)", Ok("$(A)")),
            ("$(A", Ok("$(A")),
            ("a$", Ok("a$")),
            ("$A", Ok("$A")),
            ("$(B)", Err("B")),
        ] {
            assert_eq!(expand(text, &lookup).as_deref().map_err(String::as_str), want, "{text}");
        }
    }
}
