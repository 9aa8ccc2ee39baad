//! A line of a CRI log: `<RFC 3339 time> <stdout|stderr> <tags> <text>`.

use k8s_openapi::jiff::Timestamp;

/// Which stream a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// As it stands in the file: clients get it back to the nanosecond.
    pub(super) time_text: &'a [u8],
    pub(super) stream: Stream,
    /// The runtime split a long line here: the next entry goes on with it.
    pub(super) partial: bool,
    /// Without the newline.
    pub(super) text: &'a [u8],
}

/// Parses one line with or without its newline; none if it is not of the format.
pub(super) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut fields = line.splitn(4, |b| *b == b' ');
    let time_text = fields.next().filter(|t| !t.is_empty())?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    // Tags are separated by `:`; the first says whether the line is whole.
    let partial = match fields.next()?.split(|b| *b == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Entry { time_text, stream, partial, text: fields.next().unwrap_or_default() })
}

impl Entry<'_> {
    /// None if the time is not readable; such a line is never left out by `since`.
    pub(super) fn time(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.time_text).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_parsed() {
        let entry = parse(b"2016-10-06T00:17:09.669794202Z stdout F a b\n").unwrap();
        assert_eq!((entry.stream, entry.partial, entry.text), (Stream::Stdout, false, &b"a b"[..]));
        assert_eq!(entry.time().unwrap().subsec_nanosecond(), 669_794_202);
        let partial = parse(b"2016-10-06T00:17:09.6Z stderr P:x half").unwrap();
        assert_eq!((partial.stream, partial.partial, partial.text), (Stream::Stderr, true, &b"half"[..]));
        assert_eq!(parse(b"2016-10-06T00:17:09.6Z stdout F ").unwrap().text, b"");
        assert_eq!(
            parse(b"2016-10-06T00:17:09+02:00 stdout F x").unwrap().time().unwrap().as_second() % 3600,
            17 * 60 + 9
        );
        for bad in [&b""[..], b"\n", b"x", b"t stdout", b"t other F x", b"t stdout X y", b" stdout F x"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(entry) = parse(&line) {
                prop_assert!(entry.text.len() <= line.len());
                let _ = entry.time();
            }
        }
    }
}
