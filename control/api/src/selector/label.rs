//! Label selectors, from query strings (`a=b,c in (d,e),!f`) and from `metav1.LabelSelector` objects.

use std::fmt;

use serde_json::{Map, Value};

use super::SelectorError;
use crate::field::{FieldError, Path, aggregate};
use crate::validation::content;

/// Longest query string that is parsed: more than any HTTP request line that is accepted.
const MAX_LENGTH: usize = 64 * 1024;
/// Most requirements and values of one selector.
const MAX_TERMS: usize = 4096;

/// How a requirement relates the key to the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    /// Only in node selectors and query strings; values are whole numbers.
    GreaterThan,
    LessThan,
}

/// One term of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

impl Requirement {
    /// Whether an object with the label value `label` (None: no such label) is meant.
    #[must_use]
    pub fn matches_value(&self, label: Option<&str>) -> bool {
        let holds = |v: &str| self.values.iter().any(|x| x == v);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => label.is_some_and(holds),
            Operator::NotIn | Operator::NotEquals => !label.is_some_and(holds),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let left = label.and_then(|v| v.parse::<i64>().ok());
                let right = match self.values.as_slice() {
                    [one] => one.parse::<i64>().ok(),
                    _ => None,
                };
                match (left, right) {
                    (Some(l), Some(r)) if self.operator == Operator::GreaterThan => l > r,
                    (Some(l), Some(r)) => l < r,
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&str> = self.values.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let values = sorted.join(",");
        let key = &self.key;
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A conjunction of requirements; the empty one means everything, [`LabelSelector::nothing`] none.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches no object: what an absent `metav1.LabelSelector` means.
    #[must_use]
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// `key=value` for each pair, as Services and ReplicationControllers select.
    #[must_use]
    pub fn from_map(labels: &Map<String, Value>) -> Self {
        let mut requirements: Vec<_> = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::Equals,
                values: vec![value.as_str().unwrap_or_default().to_owned()],
            })
            .collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// A selector of these terms.
    #[must_use]
    pub fn from_requirements(requirements: Vec<Requirement>) -> Self {
        Self { requirements, nothing: false }
    }

    /// Whether every object is meant.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether these labels are meant (None: the object has none).
    #[must_use]
    pub fn matches_labels(&self, labels: Option<&Map<String, Value>>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|r| r.matches_value(labels.and_then(|l| l.get(&r.key)).and_then(Value::as_str)))
    }

    /// Whether the labels that `get` looks up are meant.
    #[must_use]
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches_value(get(&r.key)))
    }

    /// Whether this object, by its `metadata.labels`, is meant.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        self.matches_labels(labels_of(object))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

/// `metadata.labels` of an object.
#[must_use]
pub fn labels_of(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.get("labels")?.as_object()
}

fn check(requirement: &Requirement) -> Result<(), String> {
    let mut errs = Vec::new();
    let root = Path::default();
    let key_errors = content::label_key(&requirement.key);
    if !key_errors.is_empty() {
        errs.push(FieldError::invalid(root.child("key"), requirement.key.clone(), key_errors.join("; ")));
    }
    let values_path = root.child("values");
    let count = requirement.values.len();
    let listed = || Value::from(requirement.values.clone());
    let complaint = match requirement.operator {
        Operator::In | Operator::NotIn if count == 0 => Some("for 'in', 'notin' operators, values set can't be empty"),
        Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if count != 1 => {
            Some("exact-match compatibility requires one single value")
        }
        Operator::Exists | Operator::DoesNotExist if count != 0 => {
            Some("values set must be empty for exists and does not exist")
        }
        Operator::GreaterThan | Operator::LessThan if count != 1 => {
            Some("for 'Gt', 'Lt' operators, exactly one value is required")
        }
        _ => None,
    };
    if let Some(detail) = complaint {
        errs.push(FieldError::invalid(&values_path, listed(), detail));
    }
    for (i, value) in requirement.values.iter().enumerate() {
        let integer =
            !matches!(requirement.operator, Operator::GreaterThan | Operator::LessThan) || value.parse::<i64>().is_ok();
        if !integer {
            errs.push(FieldError::invalid(
                values_path.index(i),
                value.clone(),
                "for 'Gt', 'Lt' operators, the value must be an integer",
            ));
        }
        let value_errors = content::label_value(value);
        if !value_errors.is_empty() {
            errs.push(FieldError::invalid(
                values_path.index(i).key(&requirement.key),
                value.clone(),
                value_errors.join("; "),
            ));
        }
    }
    if errs.is_empty() { Ok(()) } else { Err(aggregate(&errs)) }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word,
    Symbol,
    Bad,
    End,
}

struct Lexed {
    token: Token,
    text: String,
}

fn is_space(b: char) -> bool {
    matches!(b, ' ' | '\t' | '\r' | '\n')
}

fn is_special(b: char) -> bool {
    matches!(b, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn lex(input: &str) -> Vec<Lexed> {
    let mut tokens = Vec::new();
    let mut rest = input.trim_start_matches(is_space);
    while !rest.is_empty() && !rest.starts_with('\0') {
        let (token, length) = if rest.starts_with(is_special) {
            let two = rest.get(..2).filter(|t| matches!(*t, "==" | "!="));
            (Token::Symbol, two.map_or(1, str::len))
        } else {
            let end = rest.find(|c| is_space(c) || is_special(c)).unwrap_or(rest.len());
            (Token::Word, end)
        };
        let (text, after) = rest.split_at(length);
        tokens.push(Lexed { token, text: text.to_owned() });
        rest = after.trim_start_matches(is_space);
    }
    tokens.push(Lexed { token: if rest.is_empty() { Token::End } else { Token::Bad }, text: String::new() });
    tokens
}

struct Parser {
    tokens: Vec<Lexed>,
    position: usize,
}

impl Parser {
    fn peek(&self) -> (&Token, &str) {
        // The last token is End or Bad and is never stepped over.
        let lexed = &self.tokens[self.position.min(self.tokens.len() - 1)];
        (&lexed.token, &lexed.text)
    }

    fn next(&mut self) -> (Token, String) {
        let (token, text) = self.peek();
        let taken = (token.clone(), text.to_owned());
        self.position = (self.position + 1).min(self.tokens.len() - 1);
        taken
    }

    fn at(&self, symbol: &str) -> bool {
        self.peek() == (&Token::Symbol, symbol)
    }

    fn at_end(&self) -> bool {
        *self.peek().0 == Token::End
    }

    fn at_key(&self) -> bool {
        *self.peek().0 == Token::Word || self.at("!")
    }

    fn parse(mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        let mut values = 0;
        loop {
            if self.at_end() {
                return Ok(requirements);
            }
            if !self.at_key() {
                let (_, text) = self.peek();
                return Err(format!("found '{text}', expected: !, identifier, or 'end of string'"));
            }
            let requirement = self.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?;
            values += 1 + requirement.values.len();
            if values > MAX_TERMS {
                return Err(format!("a selector may not have more than {MAX_TERMS} requirements and values"));
            }
            requirements.push(requirement);
            if self.at_end() {
                return Ok(requirements);
            }
            let (_, text) = self.next();
            if text != "," {
                return Err(format!("found '{text}', expected: ',' or 'end of string'"));
            }
            if !self.at_key() {
                let (_, text) = self.peek();
                return Err(format!("found '{text}', expected: identifier after ','"));
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.at("!");
        if negated {
            self.next();
        }
        let (token, key) = self.next();
        if token != Token::Word {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let key_errors = content::label_key(&key);
        if !key_errors.is_empty() {
            return Err(FieldError::invalid("", key, key_errors.join("; ")).to_string());
        }
        let (operator, values) = if negated {
            (Operator::DoesNotExist, Vec::new())
        } else if self.at_end() || self.at(",") {
            (Operator::Exists, Vec::new())
        } else {
            self.operator_and_values()?
        };
        let requirement = Requirement { key, operator, values };
        check(&requirement)?;
        Ok(requirement)
    }

    fn operator_and_values(&mut self) -> Result<(Operator, Vec<String>), String> {
        let (_, text) = self.next();
        let operator = match text.as_str() {
            "in" => Operator::In,
            "=" => Operator::Equals,
            "==" => Operator::DoubleEquals,
            ">" => Operator::GreaterThan,
            "<" => Operator::LessThan,
            "notin" => Operator::NotIn,
            "!=" => Operator::NotEquals,
            _ => {
                return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt"));
            }
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.value_list()?,
            _ => vec![self.exact_value()?],
        };
        Ok((operator, values))
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if self.at_end() || self.at(",") {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Word, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }

    /// `(a, b)`; an empty place between commas is the empty string.
    fn value_list(&mut self) -> Result<Vec<String>, String> {
        let (_, text) = self.next();
        if text != "(" {
            return Err(format!("found '{text}' expected: '('"));
        }
        let mut values: Vec<String> = Vec::new();
        let mut add = |v: String| {
            if !values.contains(&v) {
                values.push(v);
            }
        };
        loop {
            if *self.peek().0 == Token::Word {
                add(self.next().1);
            } else if self.at(",") || self.at(")") {
                add(String::new());
            } else {
                let (_, text) = self.peek();
                return Err(format!("found '{text}', expected: ',', ')' or identifier"));
            }
            let (_, text) = self.next();
            match text.as_str() {
                ")" => break,
                "," => {}
                _ => return Err(format!("found '{text}', expected: ',' or ')'")),
            }
        }
        values.sort_unstable();
        Ok(values)
    }
}

/// Parses the `labelSelector` of a request.
///
/// # Errors
/// Upstream's words for what can't be read.
pub fn parse_label_selector(text: &str) -> Result<LabelSelector, SelectorError> {
    if text.len() > MAX_LENGTH {
        return Err(SelectorError(format!("a selector may not be longer than {MAX_LENGTH} bytes")));
    }
    let parser = Parser { tokens: lex(text), position: 0 };
    let mut requirements = parser.parse().map_err(SelectorError)?;
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(LabelSelector { requirements, nothing: false })
}

/// Reads a `metav1.LabelSelector` (`matchLabels`, `matchExpressions`). Absent or null means
/// nothing, the empty object means everything.
///
/// # Errors
/// Upstream's words for an unknown operator or malformed keys and values.
pub fn selector_from_object(selector: Option<&Value>) -> Result<LabelSelector, SelectorError> {
    let selector = match selector {
        None | Some(Value::Null) => return Ok(LabelSelector::nothing()),
        Some(selector) => selector,
    };
    let mut requirements = match selector.get("matchLabels").and_then(Value::as_object) {
        Some(labels) => LabelSelector::from_map(labels).requirements,
        None => Vec::new(),
    };
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
        let operator = match text("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                return Err(SelectorError(format!(
                    "{} is not a valid label selector operator",
                    crate::field::quote(other)
                )));
            }
        };
        let values = expression.get("values").and_then(Value::as_array);
        requirements.push(Requirement {
            key: text("key").to_owned(),
            operator,
            values: values.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        });
    }
    for requirement in &requirements {
        check(requirement).map_err(SelectorError)?;
    }
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(LabelSelector { requirements, nothing: false })
}
