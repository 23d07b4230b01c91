//! Values of standard types from their bytes, as the codec of the exchange writes them: numbers little-endian in their full width, texts with
//! their length in LEB128, sequences and maps with a count of 4 bytes.

use serde_json::{Number, Value, json};

use super::types::Type;

/// How deep values may be in each other.
const DEPTH: usize = 32;

/// What is still to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], String> {
        let Some((taken, rest)) = self.0.split_at_checked(count) else {
            return Err(format!("the bytes end within a {what}"));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N, "number")?;
        Ok(taken.try_into().expect("so many were taken"))
    }

    pub(super) fn count_u64(&mut self) -> Result<u64, String> {
        self.number().map(u64::from_le_bytes)
    }

    fn leb128(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.number()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a length has too many bytes".to_owned())
    }

    /// The bytes of an element with its length before it.
    pub(super) fn element(&mut self) -> Result<&'a [u8], String> {
        let length = u32::from_le_bytes(self.number()?);
        self.take(length as usize, "entry")
    }

    /// The next value, as JSON.
    pub(super) fn value(&mut self, of: &Type) -> Result<Value, String> {
        self.at_depth(of, 0)
    }

    fn at_depth(&mut self, of: &Type, depth: usize) -> Result<Value, String> {
        if depth > DEPTH {
            return Err("its type is too deep".to_owned());
        }
        let inner = depth + 1;
        Ok(match of {
            Type::Bool => match self.number()? {
                [0] => json!(false),
                [1] => json!(true),
                [other] => return Err(format!("{other} is no bool")),
            },
            Type::Unsigned(bytes) => {
                let mut wide = [0; 16];
                wide[..*bytes].copy_from_slice(self.take(*bytes, "number")?);
                whole(u128::from_le_bytes(wide).to_string())
            }
            Type::Signed(bytes) => {
                let taken = self.take(*bytes, "number")?;
                let sign = taken.last().is_some_and(|last| last & 0x80 != 0);
                let mut wide = [if sign { 0xff } else { 0 }; 16];
                wide[..*bytes].copy_from_slice(taken);
                whole(i128::from_le_bytes(wide).to_string())
            }
            Type::Float(4) => float(f64::from(f32::from_le_bytes(self.number()?))),
            Type::Float(_) => float(f64::from_le_bytes(self.number()?)),
            Type::Char => {
                let code = u32::from_le_bytes(self.number()?);
                let char = char::from_u32(code).ok_or_else(|| format!("{code} is no char"))?;
                json!(char.to_string())
            }
            Type::Text => {
                let length = usize::try_from(self.leb128()?).unwrap_or(usize::MAX);
                let text = self.take(length, "text")?;
                let text = str::from_utf8(text).map_err(|_| "a text is not UTF-8".to_owned())?;
                json!(text)
            }
            Type::Unit => Value::Null,
            Type::Variant => json!(self.leb128()?),
            Type::Option(value) => match self.number()? {
                [0] => Value::Null,
                [1] => self.at_depth(value, inner)?,
                [other] => return Err(format!("{other} is no Option")),
            },
            Type::List(element) => {
                let count = u32::from_le_bytes(self.number()?);
                let mut list = Vec::new();
                for _ in 0..self.fits(count)? {
                    list.push(self.at_depth(element, inner)?);
                }
                Value::Array(list)
            }
            Type::Map(at, value) => {
                let count = u32::from_le_bytes(self.number()?);
                let mut list = Vec::new();
                for _ in 0..self.fits(count)? {
                    list.push(json!([
                        self.at_depth(at, inner)?,
                        self.at_depth(value, inner)?
                    ]));
                }
                Value::Array(list)
            }
            Type::Tuple(parts) => {
                let parts = parts.iter().map(|part| self.at_depth(part, inner));
                Value::Array(parts.collect::<Result<_, _>>()?)
            }
            Type::Other(name) => {
                return Err(format!(
                    "only the job's program knows what a `{name}` has in it"
                ));
            }
        })
    }

    /// A count that there can be bytes for.
    fn fits(&self, count: u32) -> Result<u32, String> {
        // What has no bytes may be there more often.
        if count as usize > self.0.len().max(1 << 16) {
            return Err(format!("{count} elements do not fit into what is there"));
        }
        Ok(count)
    }
}

/// A number that may be wider than JSON's readers take: those are texts.
fn whole(text: String) -> Value {
    match text.parse::<i64>() {
        Ok(number) => json!(number),
        Err(_) => match text.parse::<u64>() {
            Ok(number) => json!(number),
            Err(_) => json!(text),
        },
    }
}

/// JSON has no infinity.
fn float(number: f64) -> Value {
    Number::from_f64(number).map_or_else(|| json!(number.to_string()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(of: &Type, bytes: &[u8]) -> Result<Value, String> {
        let mut rest = Bytes(bytes);
        let value = rest.value(of)?;
        assert!(rest.0.is_empty(), "{} bytes are left", rest.0.len());
        Ok(value)
    }

    #[test]
    fn numbers_of_every_width_keep_their_sign() {
        assert_eq!(value(&Type::Signed(2), &[0xfe, 0xff]), Ok(json!(-2)));
        assert_eq!(value(&Type::Unsigned(2), &[0xfe, 0xff]), Ok(json!(65534)));
        assert_eq!(value(&Type::Unsigned(8), &[0xff; 8]), Ok(json!(u64::MAX)));
        let wide = json!(u128::MAX.to_string());
        assert_eq!(value(&Type::Unsigned(16), &[0xff; 16]), Ok(wide));
        assert_eq!(
            value(&Type::Float(8), &f64::INFINITY.to_le_bytes()),
            Ok(json!("inf"))
        );
    }

    #[test]
    fn long_texts_have_longer_lengths() {
        let text = "é".repeat(100);
        let bytes = [&[200, 1][..], text.as_bytes()].concat();
        assert_eq!(value(&Type::Text, &bytes), Ok(json!(text)));
    }

    #[test]
    fn bytes_that_are_no_value_are_errors_and_take_no_memory() {
        let list = Type::List(Box::new(Type::Bool));
        for (of, bytes) in [
            (&Type::Bool, &[2][..]),
            (&Type::Char, &[0, 0xd8, 0, 0]),
            (&Type::Text, &[1, 0xff]),
            (&Type::Text, &[0xff; 12]),
            (&Type::Unsigned(8), &[1]),
            (&list, &[0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            assert!(value(of, bytes).is_err(), "{of:?}");
        }
    }
}
