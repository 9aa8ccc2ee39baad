//! The options of a request for logs: `core/v1.PodLogOptions` as query parameters.

use k8s_openapi::jiff::Timestamp;

use super::route::{query_flag, query_values};

/// Which of a container's streams are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Streams {
    #[default]
    All,
    Stdout,
    Stderr,
}

/// What the client asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogOptions {
    pub(super) follow: bool,
    pub(super) previous: bool,
    pub(super) timestamps: bool,
    pub(super) tail_lines: Option<u64>,
    pub(super) limit_bytes: Option<u64>,
    /// Lines before it are left out.
    pub(super) since: Option<Timestamp>,
    pub(super) streams: Streams,
}

impl LogOptions {
    /// Parses and checks the query; `now` is what `sinceSeconds` counts back from.
    pub(super) fn parse(query: &str, now: Timestamp) -> Result<Self, String> {
        let value = |name: &str| query_values(query, name).pop().filter(|v| !v.is_empty());
        let number = |name: &str| match value(name) {
            None => Ok(None),
            Some(text) => {
                text.parse::<i64>().map(Some).map_err(|_| format!("{name}: Invalid value: {text:?}: must be a number"))
            }
        };
        let at_least = |name: &str, least: i64| -> Result<Option<u64>, String> {
            match number(name)? {
                None => Ok(None),
                Some(n) if n >= least => Ok(u64::try_from(n).ok()),
                Some(n) => Err(format!("{name}: Invalid value: {n}: must be greater than or equal to {least}")),
            }
        };
        let since_time = match value("sinceTime") {
            None => None,
            Some(text) => {
                Some(text.parse::<Timestamp>().map_err(|e| format!("sinceTime: Invalid value: {text:?}: {e}"))?)
            }
        };
        let since_seconds = at_least("sinceSeconds", 1)?;
        let since = match (since_time, since_seconds) {
            (Some(_), Some(_)) => {
                return Err("at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned());
            }
            (time, None) => time,
            (None, Some(seconds)) => {
                let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
                Some(Timestamp::from_second(now.as_second().saturating_sub(seconds)).unwrap_or(Timestamp::MIN))
            }
        };
        let streams = match value("stream").as_deref() {
            None | Some("All") => Streams::All,
            Some("Stdout") => Streams::Stdout,
            Some("Stderr") => Streams::Stderr,
            Some(other) => {
                return Err(format!(
                    "stream: Unsupported value: {other:?}: supported values: \"All\", \"Stderr\", \"Stdout\""
                ));
            }
        };
        let tail_lines = at_least("tailLines", 0)?;
        if tail_lines.is_some() && streams != Streams::All {
            return Err("`tailLines` and specific `stream` are mutually exclusive for now".to_owned());
        }
        Ok(Self {
            follow: query_flag(query, "follow"),
            previous: query_flag(query, "previous"),
            timestamps: query_flag(query, "timestamps"),
            tail_lines,
            limit_bytes: at_least("limitBytes", 1)?,
            since,
            streams,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed_and_checked() {
        let now = Timestamp::from_second(1000).unwrap();
        let parse = |query: &str| LogOptions::parse(query, now);
        assert_eq!(parse("").unwrap(), LogOptions::default());
        let all = parse("follow=true&previous=1&timestamps=true&tailLines=0&limitBytes=5&sinceSeconds=10").unwrap();
        assert!(all.follow && all.previous && all.timestamps);
        assert_eq!((all.tail_lines, all.limit_bytes), (Some(0), Some(5)));
        assert_eq!(all.since.unwrap().as_second(), 990);
        assert_eq!(parse("sinceTime=1970-01-01T00:00:05Z").unwrap().since.unwrap().as_second(), 5);
        for bad in [
            "tailLines=-1",
            "tailLines=x",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceTime=yesterday",
            "sinceSeconds=1&sinceTime=1970-01-01T00:00:05Z",
            "stream=both",
            "stream=Stdout&tailLines=1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("sinceSeconds=9223372036854775807").is_ok());
    }
}
