//! `continue` tokens: where the next page of a list starts, and at which revision.
//!
//! Upstream's shape (base64 of JSON with `v`, `rv`, `start`) plus a keyed digest over it and the list
//! it belongs to, so that nobody reads other keys or revisions by writing a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use orlop_api::status::Status;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const VERSION: &str = "meta.k8s.io/v1";
const MAX_TOKEN_BYTES: usize = 4096;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
    mac: String,
}

/// Makes and reads tokens; its key lives as long as the process.
pub(crate) struct Continuation {
    key: [u8; 32],
}

/// A page's beginning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// 0: at the newest revision (an inconsistent continuation after 410).
    pub(crate) revision: i64,
    /// First key of the page.
    pub(crate) start: String,
}

impl Continuation {
    pub(crate) fn new() -> Self {
        Self { key: rand::random() }
    }

    fn mac(&self, scope: &str, revision: i64, start: &str) -> String {
        let inner = Sha256::new()
            .chain_update(self.key)
            .chain_update(format!("{}:{scope}:{revision}:{start}", scope.len()))
            .finalize();
        let outer = Sha256::new().chain_update(self.key).chain_update(inner).finalize();
        URL_SAFE_NO_PAD.encode(&outer[..16])
    }

    /// `scope` names the list (resource and namespace).
    pub(crate) fn encode(&self, scope: &str, position: &Position) -> String {
        let token = Token {
            v: VERSION.to_owned(),
            rv: position.revision,
            mac: self.mac(scope, position.revision, &position.start),
            start: position.start.clone(),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    pub(crate) fn decode(&self, scope: &str, token: &str) -> Result<Position, Status> {
        let bad = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        if token.len() > MAX_TOKEN_BYTES {
            return Err(bad("too long"));
        }
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| bad("no base64"))?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| bad("unknown form"))?;
        if token.v != VERSION || token.rv < 0 {
            return Err(bad("unknown version"));
        }
        if token.mac != self.mac(scope, token.rv, &token.start) {
            // Also what a token of an earlier process gets: clients list anew after 410.
            return Err(Status::expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You must start a new list without the continue parameter.",
            ));
        }
        Ok(Position { revision: token.rv, start: token.start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_bound_to_their_list() {
        let tokens = Continuation::new();
        let position = Position { revision: 7, start: "a/b\0".into() };
        let token = tokens.encode("pods/a", &position);
        assert_eq!(tokens.decode("pods/a", &token).unwrap(), position);
        assert_eq!(tokens.decode("pods/b", &token).unwrap_err().code, 410);
        assert_eq!(Continuation::new().decode("pods/a", &token).unwrap_err().code, 410);
        for bad in ["", "%%%", "e30", &"A".repeat(5000)] {
            assert_eq!(tokens.decode("pods/a", bad).unwrap_err().code, 400, "{bad}");
        }
    }
}
