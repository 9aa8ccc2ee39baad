use super::*;
use proptest::prelude::*;

fn q(s: &str) -> Quantity {
    s.parse().unwrap_or_else(|e| panic!("{s}: {e}"))
}

#[test]
fn canonical_forms() {
    for (input, expect) in [
        ("0", "0"),
        ("0Mi", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("-5", "-5"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("5.", "5"),
        ("0.1", "100m"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("100u", "100u"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1.0000000001", "1000000001n"),
        ("1E", "1E"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("1e4", "10e3"),
        ("12e-3", "12e-3"),
        ("1024", "1024"),
        ("1Ki", "1Ki"),
        ("1024Ki", "1Mi"),
        ("1536Mi", "1536Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Mi", "512Ki"),
        ("1000Ki", "1000Ki"),
        ("0.001Ki", "1024m"),
        ("1Ei", "1Ei"),
        ("16Ei", "9223372036854775807"),
        ("1e21", "1e21"),
        ("1000E", "1e21"),
        ("000123", "123"),
        ("123456789012345678901234567890n", "123456789012345678901234567890n"),
    ] {
        assert_eq!(q(input).to_string(), expect, "{input}");
    }
}

#[test]
fn refusals() {
    for (input, expect) in [
        ("", ParseQuantityError::Format),
        ("a", ParseQuantityError::Format),
        ("1 Mi", ParseQuantityError::Format),
        ("1.1.1", ParseQuantityError::Format),
        ("1Mi3", ParseQuantityError::Suffix),
        ("1e", ParseQuantityError::Suffix),
        ("1KiB", ParseQuantityError::Format),
        ("1K", ParseQuantityError::Suffix),
        ("1mm", ParseQuantityError::Suffix),
        ("-", ParseQuantityError::Numeric),
        (".", ParseQuantityError::Numeric),
        ("Mi", ParseQuantityError::Numeric),
        ("1e99999999999", ParseQuantityError::Suffix),
    ] {
        assert_eq!(input.parse::<Quantity>(), Err(expect), "{input}");
    }
}

#[test]
fn rounding() {
    assert_eq!(q("1m").value(), 1);
    assert_eq!(q("-1m").value(), -1);
    assert_eq!(q("1001m").value(), 2);
    assert_eq!(q("1u").milli_value(), 1);
    assert_eq!(q("2.5").milli_value(), 2500);
    assert_eq!(q("1e30").value(), i64::MAX);
    assert_eq!(q("1e3000").value(), i64::MAX);
    assert_eq!(q("1e-3000").to_string(), "1e-9");
    assert_eq!(q("1500u").round_up_milli().to_string(), "2m");
}

#[test]
fn order_ignores_format_and_sums_keep_it() {
    assert_eq!(q("1024"), q("1Ki"));
    assert!(q("1Mi") > q("1M"));
    assert_eq!((q("1Gi") + q("1024Mi")).to_string(), "2Gi");
    assert_eq!((Quantity::ZERO + q("1Gi")).to_string(), "1Gi");
    assert_eq!((q("1") - q("1500m")).to_string(), "-500m");
    assert_eq!(["100m", "0.2"].map(q).into_iter().sum::<Quantity>().to_string(), "300m");
}

#[test]
fn from_json() {
    assert_eq!(Quantity::from_value(&serde_json::json!(2)).unwrap(), q("2"));
    assert_eq!(Quantity::from_value(&serde_json::json!(0.25)).unwrap().to_string(), "250m");
    assert!(Quantity::from_value(&serde_json::json!([])).is_err());
}

proptest! {
    #[test]
    fn canonical_is_a_fixed_point(mantissa in -1_000_000_000_i64..1_000_000_000, suffix in "(n|u|m||k|M|G|T|P|Ki|Mi|Gi|Ti|e-5|e7|E2)") {
        let first = q(&format!("{mantissa}{suffix}"));
        let text = first.to_string();
        let second = q(&text);
        prop_assert_eq!(first, second);
        prop_assert_eq!(second.to_string(), text);
    }

    #[test]
    fn never_panics(s in "[-+0-9.eEinumkKMGTP]{0,12}") {
        if let Ok(parsed) = s.parse::<Quantity>() {
            prop_assert_eq!(q(&parsed.to_string()), parsed);
        }
    }

    #[test]
    fn arithmetic_agrees_with_integers(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000) {
        let (x, y) = (Quantity::from_milli(a), Quantity::from_milli(b));
        prop_assert_eq!((x + y).milli_value(), a + b);
        prop_assert_eq!((x - y).milli_value(), a - b);
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
    }
}
