//! The names of a record's fields, without a record.

use std::fmt::{self, Display};

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// The names of the fields of a struct, in their order, as it is read; nothing of any other type.
pub(super) fn field_names<'de, T: Deserialize<'de>>() -> Option<&'static [&'static str]> {
    T::deserialize(Probe).err()?.0
}

/// Has no data: the first that is asked of it ends the attempt, with the names if a struct is what was asked.
struct Probe;

#[derive(Debug)]
struct Asked(Option<&'static [&'static str]>);

impl Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is nothing to read")
    }
}

impl std::error::Error for Asked {}

impl Error for Asked {
    fn custom<M: Display>(_: M) -> Self {
        Self(None)
    }
}

impl<'de> Deserializer<'de> for Probe {
    type Error = Asked;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Asked> {
        Err(Asked(None))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Asked> {
        Err(Asked(Some(fields)))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Asked> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Deserialize)]
    struct Row {
        #[serde(rename = "the name")]
        _name: String,
        _size: Option<u32>,
    }

    #[derive(Deserialize)]
    struct Wrapped(#[expect(dead_code, reason = "only its type is read")] Row);

    #[test]
    fn a_struct_has_names_also_within_another_type() {
        let names = Some(&["the name", "_size"][..]);
        assert_eq!(field_names::<Row>(), names);
        assert_eq!(field_names::<Wrapped>(), names);
        assert_eq!(field_names::<Box<Row>>(), names);
    }

    #[test]
    fn other_types_have_none() {
        assert_eq!(field_names::<()>(), None);
        assert_eq!(field_names::<String>(), None);
        assert_eq!(field_names::<(Row, u8)>(), None);
        assert_eq!(field_names::<BTreeMap<String, u8>>(), None);
    }
}
