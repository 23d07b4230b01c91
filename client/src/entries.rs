//! The entries of a state, as far as its schema tells what they are.
//!
//! A schema is the kind of state and the Rust names of the types in it, such as `value<u64> by alloc::string::String`. Standard types can be
//! read by their names alone. Of others nobody but the job's program knows what they have in them: what is told then is how
//! many bytes there are, and the first of them.

mod decode;
mod types;

use serde_json::{Value, json};

use decode::Bytes;
use types::{Type, split_schema};

/// Bytes of what cannot be read that are shown.
const SHOWN: usize = 32;

/// What the chunks of a state are made of, by its schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    /// One entry after the other, each these fields with their names.
    Fields(Vec<(&'static str, Type)>),
    /// A key, then this.
    Keyed(Type, OfKey),
    /// Each with its length before it.
    Elements(Type),
    /// Each with its length before it, of a connector's own making.
    Opaque,
    Unknown,
}

/// What a key has.
#[derive(Debug, Clone, PartialEq)]
enum OfKey {
    Value {
        value: Type,
        expires: bool,
    },
    List {
        element: Type,
        expires: bool,
    },
    Map {
        at: Type,
        value: Type,
        expires: bool,
    },
    Timers,
}

/// What was found in a chunk.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Found {
    /// One object an entry.
    pub(crate) entries: Vec<Value>,
    /// Why the rest of the chunk is none, with its first bytes.
    pub(crate) rest: Option<Rest>,
}

/// Bytes that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) why: String,
    pub(crate) bytes: usize,
    pub(crate) first: String,
}

impl Layout {
    /// That of the states with this schema.
    pub(crate) fn of(schema: &str) -> Self {
        let shape = shape(schema).unwrap_or(Shape::Unknown);
        Self { shape }
    }

    /// At most so many entries of a chunk.
    pub(crate) fn read(&self, chunk: &[u8], limit: usize) -> Found {
        let mut found = Found::default();
        let mut bytes = Bytes(chunk);
        while !bytes.0.is_empty() && found.entries.len() < limit {
            let before = bytes.0;
            match self.entry(&mut bytes) {
                Ok(entry) => found.entries.push(entry),
                Err(why) => {
                    found.rest = Some(Rest {
                        why,
                        bytes: before.len(),
                        first: hex(before),
                    });
                    break;
                }
            }
        }
        found
    }

    fn entry(&self, bytes: &mut Bytes<'_>) -> Result<Value, String> {
        match &self.shape {
            Shape::Fields(fields) => {
                let mut entry = serde_json::Map::new();
                for (name, of) in fields {
                    entry.insert((*name).to_owned(), bytes.value(of)?);
                }
                Ok(Value::Object(entry))
            }
            Shape::Keyed(key, of) => {
                let key = bytes.value(key)?;
                let mut entry = serde_json::Map::from_iter([("key".to_owned(), key)]);
                of.read(bytes, &mut entry)?;
                Ok(Value::Object(entry))
            }
            Shape::Elements(element) => {
                let own = bytes.element()?;
                let mut rest = Bytes(own);
                match rest.value(element) {
                    Ok(value) if rest.0.is_empty() => Ok(json!({ "value": value })),
                    Ok(_) => Err(format!(
                        "an entry of {} bytes has more of them than its type",
                        own.len()
                    )),
                    // Its length is known, so the next one can be read.
                    Err(why) => Ok(json!({"bytes": own.len(), "first": hex(own), "why": why})),
                }
            }
            Shape::Opaque => {
                let own = bytes.element()?;
                Ok(match serde_json::from_slice::<Value>(own) {
                    Ok(value) => json!({ "value": value }),
                    Err(_) => json!({"bytes": own.len(), "first": hex(own)}),
                })
            }
            Shape::Unknown => Err("this release does not know that kind of state".to_owned()),
        }
    }
}

impl OfKey {
    fn read(
        &self,
        bytes: &mut Bytes<'_>,
        entry: &mut serde_json::Map<String, Value>,
    ) -> Result<(), String> {
        let mut put = |name: &str, value| drop(entry.insert(name.to_owned(), value));
        let instant = Type::signed(8);
        match self {
            Self::Value { value, expires } => {
                if *expires {
                    put("written_ms", bytes.value(&instant)?);
                }
                put(
                    "value",
                    bytes.value(&Type::Option(Box::new(value.clone())))?,
                );
            }
            Self::List { element, expires } => {
                if *expires {
                    put("written_ms", bytes.value(&Type::List(Box::new(instant)))?);
                }
                put(
                    "value",
                    bytes.value(&Type::List(Box::new(element.clone())))?,
                );
            }
            Self::Map { at, value, expires } => {
                let mut map = Vec::new();
                for _ in 0..bytes.count_u64()? {
                    let mut pair = vec![bytes.value(at)?, bytes.value(value)?];
                    if *expires {
                        pair.push(bytes.value(&instant)?);
                    }
                    map.push(Value::Array(pair));
                }
                put("value", Value::Array(map));
            }
            Self::Timers => put("times_ms", bytes.value(&Type::List(Box::new(instant)))?),
        }
        Ok(())
    }
}

fn shape(schema: &str) -> Option<Shape> {
    let (kind, types, by) = split_schema(schema)?;
    let types: Vec<Type> = types.iter().map(|text| Type::parse(text)).collect();
    let expiring = kind.strip_prefix("expiring ");
    let expires = expiring.is_some();
    if let Some(key) = by {
        let of = match (expiring.unwrap_or(kind), &types[..]) {
            ("value", [value]) => OfKey::Value {
                value: value.clone(),
                expires,
            },
            ("list", [element]) => OfKey::List {
                element: element.clone(),
                expires,
            },
            ("map", [at, value]) => OfKey::Map {
                at: at.clone(),
                value: value.clone(),
                expires,
            },
            ("timers", []) => OfKey::Timers,
            _ => return None,
        };
        return Some(Shape::Keyed(Type::parse(key), of));
    }
    let instant = || Type::signed(8);
    Some(match (kind, &types[..]) {
        ("value by key", [key, value]) => {
            Shape::Fields(vec![("key", key.clone()), ("value", value.clone())])
        }
        ("accumulator by pane and key", [key, accumulator]) => Shape::Fields(vec![
            ("pane_ms", instant()),
            ("key", key.clone()),
            ("value", accumulator.clone()),
        ]),
        ("windows by key", [key, accumulator, trigger]) => Shape::Fields(vec![
            ("key", key.clone()),
            ("start_ms", instant()),
            ("end_ms", instant()),
            ("value", Type::Option(Box::new(accumulator.clone()))),
            ("trigger", trigger.clone()),
            (
                "timers",
                Type::List(Box::new(Type::Tuple(vec![Type::Variant, instant()]))),
            ),
        ]),
        ("instant by key group", [_]) => Shape::Fields(vec![("value", instant())]),
        ("operator list" | "progress", [element]) => Shape::Elements(element.clone()),
        ("source positions" | "output", _) => Shape::Opaque,
        _ => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    let shown = bytes.iter().take(SHOWN);
    let mut text: String = shown.map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN {
        text += "…";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRING: &str = "alloc::string::String";

    fn read(schema: &str, chunk: &[u8]) -> Found {
        Layout::of(schema).read(chunk, 100)
    }

    fn values(schema: &str, chunk: &[u8]) -> Vec<Value> {
        let found = read(schema, chunk);
        assert_eq!(found.rest, None);
        found.entries
    }

    #[test]
    fn running_values_are_pairs() {
        let chunk = [
            b"\x01a".as_slice(),
            &7_u64.to_le_bytes(),
            b"\0",
            &8_u64.to_le_bytes(),
        ];
        assert_eq!(
            values(&format!("value by key<{STRING}, u64>"), &chunk.concat()),
            [
                json!({"key": "a", "value": 7}),
                json!({"key": "", "value": 8})
            ]
        );
    }

    #[test]
    fn keyed_states_of_functions_are_told_with_what_they_have() {
        let key = 5_u32.to_le_bytes();
        let stamp = 9_i64.to_le_bytes();
        let chunk = [&key[..], b"\x01", &2.5_f64.to_le_bytes()].concat();
        let expected = json!({"key": 5, "value": 2.5});
        assert_eq!(values("value<f64> by u32", &chunk), [expected]);
        let chunk = [&key[..], &stamp, b"\x01\x01"].concat();
        let expected = json!({"key": 5, "written_ms": 9, "value": true});
        assert_eq!(values("expiring value<bool> by u32", &chunk), [expected]);
        let chunk = [&key[..], &2_u32.to_le_bytes(), b"\x01x\x02yz"].concat();
        let expected = json!({"key": 5, "value": ["x", "yz"]});
        assert_eq!(
            values(&format!("list<{STRING}> by u32"), &chunk),
            [expected]
        );
        let chunk = [&key[..], &1_u64.to_le_bytes(), b"\xff", b"\x00", &stamp].concat();
        let expected = json!({"key": 5, "value": [[-1, null, 9]]});
        assert_eq!(
            values("expiring map<i8, core::option::Option<u8>> by u32", &chunk),
            [expected]
        );
        let chunk = [&key[..], &1_u32.to_le_bytes(), &stamp].concat();
        let expected = json!({"key": 5, "times_ms": [9]});
        assert_eq!(values("timers by u32", &chunk), [expected]);
    }

    #[test]
    fn panes_and_windows_have_times() {
        let chunk = [&1000_i64.to_le_bytes()[..], b"\x03", &4_u64.to_le_bytes()].concat();
        assert_eq!(
            values("accumulator by pane and key<u8, u64>", &chunk),
            [json!({"pane_ms": 1000, "key": 3, "value": 4})]
        );
        let chunk = [
            b"\x03".as_slice(),
            &1_i64.to_le_bytes(),
            &2_i64.to_le_bytes(),
            b"\x01\x09",
            &1_u32.to_le_bytes(),
            b"\0",
            &2_i64.to_le_bytes(),
        ];
        assert_eq!(
            values("windows by key<u8, u8, ()>", &chunk.concat()),
            [
                json!({"key": 3, "start_ms": 1, "end_ms": 2, "value": 9, "trigger": null, "timers": [[0, 2]]})
            ]
        );
    }

    #[test]
    fn lists_are_told_element_by_element_also_where_one_is_of_an_unknown_type() {
        let element = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
        let two = [element(b"\x01"), element(b"\x02")].concat();
        assert_eq!(
            values("progress<u8>", &two),
            [json!({"value": 1}), json!({"value": 2})]
        );
        let told = values("operator list<shop::Cart>", &two);
        assert_eq!(told[1]["first"], "02");
        assert!(told[1]["why"].as_str().unwrap().contains("shop::Cart"));
        let json = element(b"{\"file\":\"f\"}");
        assert_eq!(
            values("source positions<positions in files>", &json),
            [json!({"value": {"file": "f"}})]
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_first_bytes() {
        let found = read("value by key<shop::Key, u64>", &[1; 40]);
        assert_eq!(found.entries, [] as [Value; 0]);
        let rest = found.rest.unwrap();
        assert!(rest.why.contains("`shop::Key`"), "{}", rest.why);
        assert_eq!(
            (rest.bytes, rest.first),
            (40, format!("{}…", "01".repeat(32)))
        );
        let found = read("value by key<u8, u64>", &[1, 0, 0]);
        assert!(found.rest.unwrap().why.contains("end within"));
        let found = read("something new<u8>", &[1]);
        assert!(found.rest.unwrap().why.contains("does not know"));
    }

    #[test]
    fn no_more_are_read_than_asked_for() {
        let found = Layout::of("value by key<u8, u8>").read(&[1, 2, 3, 4, 5, 6], 2);
        assert_eq!((found.entries.len(), found.rest), (2, None));
    }
}
