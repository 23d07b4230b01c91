use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f64),
    Line((i32, i32), (i32, i32)),
    Named { name: String, tags: Vec<u16> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    small: i8,
    wide: u128,
    letter: char,
    text: String,
    maybe: Option<Box<str>>,
    shapes: Vec<Shape>,
    table: BTreeMap<String, Option<i64>>,
    nothing: (),
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Point),
        any::<i32>().prop_map(|n| Shape::Circle(f64::from(n) / 3.0)),
        any::<((i32, i32), (i32, i32))>().prop_map(|(from, to)| Shape::Line(from, to)),
        (any::<String>(), any::<Vec<u16>>()).prop_map(|(name, tags)| Shape::Named { name, tags }),
    ]
}

fn everything() -> impl Strategy<Value = Everything> {
    (
        any::<(bool, i8, u128, char, String)>(),
        any::<Option<String>>(),
        proptest::collection::vec(shape(), 0..4),
        any::<BTreeMap<String, Option<i64>>>(),
    )
        .prop_map(
            |((flag, small, wide, letter, text), maybe, shapes, table)| Everything {
                flag,
                small,
                wide,
                letter,
                text,
                maybe: maybe.map(Into::into),
                shapes,
                table,
                nothing: (),
            },
        )
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself_whatever_was_in_its_place(
        values in proptest::collection::vec(everything(), 1..4),
        mut place in everything(),
    ) {
        let mut bytes = Vec::new();
        for value in &values {
            encode(value, &mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        for value in &values {
            prop_assert_eq!(&decode::<Everything>(&mut rest).unwrap(), value);
        }
        prop_assert!(rest.is_empty());
        let mut rest = &bytes[..];
        for value in &values {
            decode_into(&mut rest, &mut place).unwrap();
            prop_assert_eq!(&place, value);
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn a_value_that_is_cut_short_is_an_error(value in everything(), cut in any::<proptest::sample::Index>()) {
        let mut bytes = Vec::new();
        encode(&value, &mut bytes).unwrap();
        let cut = cut.index(bytes.len());
        prop_assert!(decode::<Everything>(&mut &bytes[..cut]).is_err());
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in any::<Vec<u8>>()) {
        let _ = decode::<Everything>(&mut &bytes[..]);
        let _ = decode::<Vec<Shape>>(&mut &bytes[..]);
    }
}

#[test]
fn the_layout_is_as_documented() {
    let mut bytes = Vec::new();
    encode(&(true, 258_u16, "ab", Some(-1_i32)), &mut bytes).unwrap();
    encode(&vec![7_u8, 8], &mut bytes).unwrap();
    encode(&Shape::Circle(0.0), &mut bytes).unwrap();
    let expected = [
        &[1, 2, 1, 2, b'a', b'b', 1, 255, 255, 255, 255][..],
        &[2, 0, 0, 0, 7, 8],
        &[1, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    assert_eq!(bytes, expected);
    let long = "x".repeat(300);
    bytes.clear();
    encode(&long, &mut bytes).unwrap();
    assert_eq!(bytes[..2], [0xac, 0x02]);
}

#[test]
fn a_text_decoded_into_one_that_is_there_takes_no_memory() {
    let mut bytes = Vec::new();
    encode("short", &mut bytes).unwrap();
    let mut place = String::with_capacity(32);
    let before = place.as_ptr();
    decode_into(&mut &bytes[..], &mut place).unwrap();
    assert_eq!((place.as_str(), place.as_ptr()), ("short", before));
}

#[test]
fn a_type_that_describes_itself_is_refused_in_words() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Loose {
        Number(u64),
        Text(String),
    }
    let mut bytes = Vec::new();
    encode(&Loose::Number(1), &mut bytes).unwrap();
    encode(&Loose::Text(String::new()), &mut bytes).unwrap();
    let error = decode::<Loose>(&mut &bytes[..]).unwrap_err();
    assert_eq!(error, Malformed::NotSelfDescribing);
}
