//! The messages' fields, looked up in the text that lists them.

use std::collections::HashMap;
use std::sync::OnceLock;

static MESSAGES: &str = include_str!("messages.txt");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    Text,
    Bool,
    Int,
    Double,
    Bytes,
    /// `.Name` is of the same package.
    Message(&'a str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    One(Scalar<'a>),
    List(Scalar<'a>),
    Map(Scalar<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// The message that it belongs to.
    pub(super) message: &'a str,
    pub(super) json_name: &'static str,
    pub(super) kind: Kind<'static>,
    /// Its fields stand beside the others in JSON.
    pub(super) inline: bool,
    /// A pointer in Go: there and zero is something else than not there.
    pub(super) pointer: bool,
}

/// Message to its fields' text. Made when the first protobuf body comes.
fn index() -> &'static HashMap<&'static str, &'static str> {
    static INDEX: OnceLock<HashMap<&'static str, &'static str>> = OnceLock::new();
    INDEX.get_or_init(|| MESSAGES.lines().map(|line| line.split_once(' ').unwrap_or((line, ""))).collect())
}

pub(super) fn is_known(message: &str) -> bool {
    index().contains_key(message)
}

/// `ExtraValue` and `Verbs`: lists that protobuf needs a message for.
pub(super) fn is_list_wrapper(message: &str) -> bool {
    index().get(message) == Some(&"1items:*s")
}

pub(super) fn field<'a>(message: &'a str, number: u64) -> Option<Field<'a>> {
    let fields = index().get(message)?;
    fields.split(' ').find_map(|text| parse(message, text, number))
}

fn parse<'a>(message: &'a str, text: &'static str, wanted: u64) -> Option<Field<'a>> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    if number.parse() != Ok(wanted) {
        return None;
    }
    let inline = rest.starts_with('>');
    let pointer = rest.starts_with('?');
    let (json_name, type_) = rest.trim_start_matches(['>', '?']).split_once(':')?;
    let kind = match (type_.strip_prefix('*'), type_.strip_prefix('@')) {
        (Some(of), _) => Kind::List(scalar(of)),
        (_, Some(of)) => Kind::Map(scalar(of)),
        _ => Kind::One(scalar(type_)),
    };
    Some(Field { message, json_name, kind, inline, pointer })
}

fn scalar(text: &'static str) -> Scalar<'static> {
    match text {
        "s" => Scalar::Text,
        "b" => Scalar::Bool,
        "i" => Scalar::Int,
        "d" => Scalar::Double,
        "y" => Scalar::Bytes,
        message => Scalar::Message(message),
    }
}

/// The full name of a message that a field of `of` has.
pub(super) fn resolve(of: &str, name: &str) -> String {
    match (name.strip_prefix('.'), of.rsplit_once('.')) {
        (Some(local), Some((package, _))) => format!("{package}.{local}"),
        _ => name.to_owned(),
    }
}
