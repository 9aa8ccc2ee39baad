//! `resource.Quantity`: fixed-point numbers with SI, binary or exponent suffixes.
//!
//! Values are kept as a whole number of nano units, the finest grain that upstream keeps. What is
//! finer is rounded away from zero ("if you want some, you get some"); what is larger than
//! [`MAX_UNITS`] is capped.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use serde_json::Value;

#[cfg(test)]
mod tests;

const NANO: i128 = 1_000_000_000;
/// Largest magnitude kept, in units. Upstream caps binary quantities at 2^63-1 and lets decimal
/// ones grow without end.
pub const MAX_UNITS: i128 = 100_000_000_000_000_000_000_000_000_000;
const MAX_NANO: i128 = MAX_UNITS * NANO;
/// Digits of one number that are looked at: more than any [`MAX_UNITS`] value needs.
const MAX_DIGITS: usize = 4096;

/// How a quantity was written, and so how it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// A parsed quantity. Equality and order go by value, not by format.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Upstream's three parse errors, with upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

enum Scale {
    Ten(i32),
    Two(u32),
}

fn interpret_suffix(suffix: &str) -> Option<(Scale, Format)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Some((Scale::Ten(*exponent), Format::DecimalSi));
    }
    if let Some((_, exponent)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Some((Scale::Two(*exponent), Format::BinarySi));
    }
    let digits = suffix.strip_prefix(['e', 'E'])?;
    // Go's ParseInt takes a leading plus as well; so does Rust's.
    let exponent: i32 = digits.parse().ok()?;
    Some((Scale::Ten(exponent), Format::DecimalExponent))
}

/// `value / 10^places`, away from zero.
fn shift_down(value: i128, places: u32) -> i128 {
    if value == 0 {
        return 0;
    }
    match 10_i128.checked_pow(places) {
        Some(divisor) => div_away(value, divisor),
        None => value.signum(),
    }
}

fn div_away(value: i128, divisor: i128) -> i128 {
    let quotient = value / divisor;
    if value % divisor == 0 { quotient } else { quotient + value.signum() }
}

impl Quantity {
    pub const ZERO: Self = Self { nano: 0, format: Format::DecimalSi };

    /// A whole number of units.
    #[must_use]
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nano: i128::from(units) * NANO, format }
    }

    /// A number of thousandths.
    #[must_use]
    pub fn from_milli(milli: i64) -> Self {
        Self { nano: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// A quantity as it stands in JSON: a string, or a bare number.
    ///
    /// # Errors
    /// What [`FromStr`] refuses, and every other JSON type.
    pub fn from_value(value: &Value) -> Result<Self, ParseQuantityError> {
        match value {
            Value::String(s) => s.parse(),
            Value::Number(n) => n.to_string().parse(),
            Value::Null => Ok(Self::ZERO),
            _ => Err(ParseQuantityError::Format),
        }
    }

    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// -1, 0 or 1.
    #[must_use]
    pub fn sign(&self) -> i32 {
        match self.nano.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// Units, rounded away from zero as upstream's `Value()`.
    #[must_use]
    pub fn value(&self) -> i64 {
        clamp_i64(div_away(self.nano, NANO))
    }

    /// Thousandths, rounded away from zero as upstream's `MilliValue()`.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        clamp_i64(div_away(self.nano, NANO / 1000))
    }

    /// The nearest double.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an approximation is what is asked for")]
    pub fn as_f64(&self) -> f64 {
        self.nano as f64 / 1e9
    }

    /// Whether there is no fraction.
    #[must_use]
    pub fn is_integer(&self) -> bool {
        self.nano % NANO == 0
    }

    /// Rounds what is finer than a thousandth away from zero (upstream's `RoundUp(Milli)`, applied
    /// to every resource list).
    #[must_use]
    pub fn round_up_milli(self) -> Self {
        let milli = NANO / 1000;
        Self { nano: div_away(self.nano, milli) * milli, ..self }
    }

    fn with_nano(self, other_format: Format, nano: i128) -> Self {
        // Zero has no format of its own: a sum takes the format of what is added to it.
        let format = if self.is_zero() { other_format } else { self.format };
        Self { nano: nano.clamp(-MAX_NANO, MAX_NANO), format }
    }

    fn write_decimal(&self, f: &mut fmt::Formatter<'_>, exponent_form: bool) -> fmt::Result {
        let mut mantissa = self.nano;
        let mut exponent = -9_i32;
        while mantissa % 1000 == 0 {
            mantissa /= 1000;
            exponent += 3;
        }
        if !exponent_form && let Some((suffix, _)) = DECIMAL.iter().find(|(_, e)| *e == exponent) {
            return write!(f, "{mantissa}{suffix}");
        }
        if exponent == 0 { write!(f, "{mantissa}") } else { write!(f, "{mantissa}e{exponent}") }
    }
}

fn clamp_i64(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (negative, rest) = match s.as_bytes().first() {
            None => return Err(ParseQuantityError::Format),
            Some(b'-') => (true, &s[1..]),
            Some(b'+') => (false, &s[1..]),
            Some(_) => (false, s),
        };
        let digits_end = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (whole, rest) = rest.split_at(digits_end(rest));
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(after) => after.split_at(digits_end(after)),
            None => ("", rest),
        };
        check_suffix_shape(rest)?;
        if whole.is_empty() && fraction.is_empty() {
            return Err(ParseQuantityError::Numeric);
        }
        if whole.len() + fraction.len() > MAX_DIGITS {
            return Err(ParseQuantityError::Numeric);
        }
        let (scale, format) = interpret_suffix(rest).ok_or(ParseQuantityError::Suffix)?;
        let nano = magnitude(whole, fraction, &scale);
        let format = match format {
            // Upstream: a binary quantity below one is shown in decimal.
            Format::BinarySi if nano < NANO && nano > 0 => Format::DecimalSi,
            other => other,
        };
        let nano = match format {
            Format::BinarySi => nano.min(i128::from(i64::MAX) * NANO),
            _ => nano,
        };
        Ok(Self { nano: if negative { -nano } else { nano }, format })
    }
}

fn check_suffix_shape(rest: &str) -> Result<(), ParseQuantityError> {
    let letters = rest.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = letters.strip_prefix(['-', '+']).unwrap_or(letters);
    if digits.bytes().all(|b| b.is_ascii_digit()) { Ok(()) } else { Err(ParseQuantityError::Format) }
}

/// `whole.fraction × scale` in nano units, rounded up and capped.
fn magnitude(whole: &str, fraction: &str, scale: &Scale) -> i128 {
    let digits = || whole.bytes().chain(fraction.bytes());
    let Some(first) = digits().position(|b| b != b'0') else {
        return 0;
    };
    // 38 significant digits fit an i128; the rest only decides whether to round up.
    let mut mantissa = 0_i128;
    let mut kept = 0_usize;
    let mut sticky = false;
    for digit in digits().skip(first) {
        let digit = i128::from(digit - b'0');
        if kept < 30 {
            mantissa = mantissa * 10 + digit;
            kept += 1;
        } else {
            sticky |= digit != 0;
        }
    }
    let as_i32 = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let dropped = digits().count() - first - kept;
    let mut exponent = as_i32(dropped) - as_i32(fraction.len());
    if sticky {
        mantissa = mantissa.saturating_add(1);
    }
    match scale {
        Scale::Ten(e) => exponent = exponent.saturating_add(*e),
        Scale::Two(bits) => {
            return binary_magnitude(mantissa, exponent, *bits);
        }
    }
    scale_ten(mantissa, exponent.saturating_add(9))
}

fn scale_ten(mantissa: i128, exponent: i32) -> i128 {
    let places = exponent.unsigned_abs();
    if exponent < 0 {
        return shift_down(mantissa, places).min(MAX_NANO);
    }
    10_i128
        .checked_pow(places)
        .and_then(|factor| mantissa.checked_mul(factor))
        .map_or(MAX_NANO, |nano| nano.min(MAX_NANO))
}

fn binary_magnitude(mantissa: i128, exponent: i32, bits: u32) -> i128 {
    let shifted = mantissa.checked_mul(1_i128 << bits);
    match shifted {
        Some(shifted) => scale_ten(shifted, exponent.saturating_add(9)),
        // Too many digits for the product: scale first, which can only lose what is below a nano
        // unit of the mantissa.
        None => scale_ten(mantissa, exponent.saturating_add(9))
            .checked_mul(1_i128 << bits)
            .map_or(MAX_NANO, |nano| nano.min(MAX_NANO)),
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that keeps the value exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        match self.format {
            Format::DecimalExponent => self.write_decimal(f, true),
            Format::DecimalSi => self.write_decimal(f, false),
            Format::BinarySi => {
                let units = self.nano / NANO;
                if !self.is_integer() || units.abs() < 1024 {
                    return self.write_decimal(f, false);
                }
                let mut mantissa = units;
                let mut suffix = "";
                for (name, _) in &BINARY {
                    if mantissa % 1024 != 0 {
                        break;
                    }
                    mantissa /= 1024;
                    suffix = name;
                }
                write!(f, "{mantissa}{suffix}")
            }
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}
impl Default for Quantity {
    fn default() -> Self {
        Self::ZERO
    }
}
impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.with_nano(other.format, self.nano.saturating_add(other.nano))
    }
}
impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.with_nano(other.format, self.nano.saturating_sub(other.nano))
    }
}
impl Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self { nano: -self.nano, ..self }
    }
}
impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}
