//! Query parameters, and the options that Kubernetes' verbs read from them.

use orlop_api::apply::manager_of_user_agent;
use orlop_api::status::Status;
use orlop_api::strict::FieldValidation;

/// Decoded parameters in order of appearance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(raw: Option<&str>) -> Self {
        Self(url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// The parameter where it is set and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// As upstream converts query strings to bool: present and neither `false` nor `0`.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.text(name) {
            None => Ok(None),
            Some(v) => v
                .parse()
                .map(Some)
                .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {v:?}: invalid syntax"))),
        }
    }
}

/// `dryRun`, `fieldManager`, `fieldValidation`, `force` of writes.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_manager: String,
    pub(crate) field_validation: FieldValidation,
    pub(crate) force: bool,
    /// Server-side apply keeps `managedFields` itself.
    pub(crate) applies: bool,
}

impl WriteOptions {
    pub(crate) fn parse(query: &Query, user_agent: &str) -> Result<Self, Status> {
        let dry_run = dry_run(query.all("dryRun"))?;
        let field_validation = FieldValidation::from_query(query.text("fieldValidation"))?;
        let field_manager = match query.text("fieldManager") {
            Some(manager) if manager.len() > 128 || manager.chars().any(char::is_control) => {
                return Err(Status::new(
                    422,
                    "Invalid",
                    "fieldManager: must be at most 128 printable characters long".to_owned(),
                ));
            }
            Some(manager) => manager.to_owned(),
            None => match manager_of_user_agent(user_agent) {
                "" => "unknown".to_owned(),
                name => name.to_owned(),
            },
        };
        Ok(Self {
            dry_run,
            field_manager,
            field_validation,
            force: query.flag("force").unwrap_or(false),
            applies: false,
        })
    }
}

/// Only `All` is known.
pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let mut on = false;
    for value in values {
        match value {
            "All" => on = true,
            "" => {}
            other => {
                return Err(Status::new(
                    422,
                    "Invalid",
                    format!(
                        "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: {other:?}: supported \
                         values: \"All\""
                    ),
                ));
            }
        }
    }
    Ok(on)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Unset,
    NotOlderThan,
    Exact,
}

/// Options of list and watch.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    /// `None`: not given, which asks for the newest.
    pub(crate) resource_version: Option<i64>,
    pub(crate) version_match: VersionMatch,
    pub(crate) limit: usize,
    pub(crate) continuation: Option<String>,
    pub(crate) timeout_s: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
}

impl ListOptions {
    pub(crate) fn parse(query: &Query, watch: bool) -> Result<Self, Status> {
        let resource_version = match query.text("resourceVersion") {
            None => None,
            Some(text) => match text.parse::<i64>() {
                Ok(version) if version >= 0 => Some(version),
                _ => {
                    return Err(invalid(&format!(
                        "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
                    )));
                }
            },
        };
        let version_match = match query.text("resourceVersionMatch") {
            None => VersionMatch::Unset,
            Some("NotOlderThan") => VersionMatch::NotOlderThan,
            Some("Exact") => VersionMatch::Exact,
            Some(other) => {
                return Err(invalid(&format!(
                    "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
                )));
            }
        };
        let options = Self {
            resource_version,
            version_match,
            limit: usize::try_from(query.int("limit")?.unwrap_or(0)).unwrap_or(0),
            continuation: query.text("continue").map(str::to_owned),
            timeout_s: query.int("timeoutSeconds")?.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0),
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            send_initial_events: query.flag("sendInitialEvents"),
            label_selector: query.get("labelSelector").unwrap_or_default().to_owned(),
            field_selector: query.get("fieldSelector").unwrap_or_default().to_owned(),
        };
        options.check(watch)?;
        Ok(options)
    }

    /// Upstream's `ValidateListOptions`.
    fn check(&self, watch: bool) -> Result<(), Status> {
        if watch {
            return match (self.send_initial_events, self.version_match) {
                (Some(_), VersionMatch::NotOlderThan) | (None, VersionMatch::Unset) => Ok(()),
                (Some(_), _) => Err(invalid(
                    "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                )),
                (None, _) => Err(invalid(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                )),
            };
        }
        if self.send_initial_events.is_some() {
            return Err(invalid("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"));
        }
        if self.version_match != VersionMatch::Unset {
            if self.resource_version.is_none() {
                return Err(invalid(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            if self.continuation.is_some() {
                return Err(invalid(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
                ));
            }
            if self.version_match == VersionMatch::Exact && self.resource_version == Some(0) {
                return Err(invalid(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
        }
        if self.continuation.is_some() && self.resource_version.is_some_and(|v| v > 0) {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        Ok(())
    }
}

fn invalid(what: &str) -> Status {
    Status::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_options_are_checked_as_upstream_does() {
        for (query, watch, code) in [
            ("", false, 0),
            ("resourceVersion=0", true, 0),
            ("resourceVersion=x", true, 422),
            ("resourceVersionMatch=Exact", false, 422),
            ("resourceVersionMatch=Exact&resourceVersion=0", false, 422),
            ("resourceVersionMatch=Exact&resourceVersion=5", false, 0),
            ("resourceVersionMatch=NotOlderThan&resourceVersion=5", true, 422),
            ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true, 0),
            ("sendInitialEvents=true", true, 422),
            ("sendInitialEvents=true", false, 422),
            ("limit=x", false, 400),
            ("continue=abc&resourceVersion=5", false, 400),
        ] {
            let got = ListOptions::parse(&Query::parse(Some(query)), watch).map_or_else(|s| s.code, |_| 0);
            assert_eq!(got, code, "{query} watch={watch}");
        }
    }

    #[test]
    fn write_options() {
        let parse = |q: &str| WriteOptions::parse(&Query::parse(Some(q)), "kubectl/v1.32 (linux)");
        assert!(parse("dryRun=All").unwrap().dry_run);
        assert_eq!(parse("").unwrap().field_manager, "kubectl");
        assert_eq!(parse("dryRun=Some").unwrap_err().code, 422);
        assert_eq!(parse("fieldValidation=Hard").unwrap_err().code, 422);
        assert_eq!(parse("fieldValidation=Strict").unwrap().field_validation, FieldValidation::Strict);
    }
}
