//! Rust's names of standard types.

/// A type whose bytes can be read without the program, or the name of one that cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    /// Of so many bytes.
    Unsigned(usize),
    Signed(usize),
    Float(usize),
    Char,
    Text,
    Unit,
    /// The number of an enum's variant that has nothing in it.
    Variant,
    Option(Box<Self>),
    List(Box<Self>),
    Map(Box<Self>, Box<Self>),
    Tuple(Vec<Self>),
    Other(String),
}

/// What holds one value and is written as that value, by the end of its name.
const AROUND: [&str; 4] = ["Box", "Rc", "Arc", "Reverse"];
const LISTS: [&str; 6] = [
    "Vec",
    "VecDeque",
    "LinkedList",
    "BTreeSet",
    "HashSet",
    "BinaryHeap",
];
const MAPS: [&str; 2] = ["BTreeMap", "HashMap"];
/// Times of ours: milliseconds.
const TIMES: [&str; 2] = [
    "spindle_common::time::EventTime",
    "spindle_common::time::Watermark",
];

impl Type {
    pub(super) const fn signed(bytes: usize) -> Self {
        Self::Signed(bytes)
    }

    /// The type that `std::any::type_name` calls so.
    pub(super) fn parse(name: &str) -> Self {
        let name = name.trim();
        let primitive = match name {
            "bool" => Some(Self::Bool),
            "u8" => Some(Self::Unsigned(1)),
            "u16" => Some(Self::Unsigned(2)),
            "u32" => Some(Self::Unsigned(4)),
            // serde writes it so on every machine.
            "u64" | "usize" => Some(Self::Unsigned(8)),
            "u128" => Some(Self::Unsigned(16)),
            "i8" => Some(Self::Signed(1)),
            "i16" => Some(Self::Signed(2)),
            "i32" => Some(Self::Signed(4)),
            "i64" | "isize" => Some(Self::Signed(8)),
            "i128" => Some(Self::Signed(16)),
            "f32" => Some(Self::Float(4)),
            "f64" => Some(Self::Float(8)),
            "char" => Some(Self::Char),
            "str" | "&str" | "alloc::string::String" => Some(Self::Text),
            "()" => Some(Self::Unit),
            _ if TIMES.contains(&name) => Some(Self::Signed(8)),
            _ => None,
        };
        primitive
            .or_else(|| Self::composed(name))
            .unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    fn composed(name: &str) -> Option<Self> {
        if let Some(inner) = name.strip_prefix('(').and_then(|it| it.strip_suffix(')')) {
            return Some(Self::Tuple(list(inner)?));
        }
        if let Some(inner) = name.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            // serde has arrays as tuples.
            let (element, count) = inner.rsplit_once(';')?;
            let count = count.trim().parse().ok().filter(|count| *count <= 32)?;
            return Some(Self::Tuple(vec![Self::parse(element); count]));
        }
        let (path, inner) = name.strip_suffix('>')?.split_once('<')?;
        // One of a program's own may have the same last name.
        let (krate, _) = path.split_once("::")?;
        if !["core", "alloc", "std"].contains(&krate) {
            return None;
        }
        let (_, last) = path.rsplit_once("::")?;
        let inner = list(inner)?;
        match &inner[..] {
            [value] if last == "Option" => Some(Self::Option(Box::new(value.clone()))),
            [value] if AROUND.contains(&last) => Some(value.clone()),
            // A hasher may follow.
            [value, ..] if LISTS.contains(&last) => Some(Self::List(Box::new(value.clone()))),
            [at, value, ..] if MAPS.contains(&last) => {
                Some(Self::Map(Box::new(at.clone()), Box::new(value.clone())))
            }
            _ => None,
        }
    }
}

fn list(text: &str) -> Option<Vec<Type>> {
    let parts = split(text)?;
    Some(parts.into_iter().map(Type::parse).collect())
}

/// The parts between commas that stand in no brackets.
fn split(text: &str) -> Option<Vec<&str>> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'<' | b'(' | b'[' => depth += 1,
            // That of a function's arrow closes nothing.
            b'>' if at > 0 && text.as_bytes()[at - 1] == b'-' => {}
            b'>' | b')' | b']' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return None;
    }
    if !text[start..].trim().is_empty() {
        parts.push(&text[start..]);
    }
    Some(parts)
}

/// Kind, types and key of `kind<types> by key`.
pub(super) fn split_schema(schema: &str) -> Option<(&str, Vec<&str>, Option<&str>)> {
    if let Some(key) = schema.strip_prefix("timers by ") {
        return Some(("timers", Vec::new(), Some(key)));
    }
    let (kind, rest) = schema.split_once('<')?;
    let mut depth = 1_usize;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'<' => depth += 1,
            b'>' if at > 0 && rest.as_bytes()[at - 1] == b'-' => {}
            b'>' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let by = match &rest[at + 1..] {
                "" => None,
                by => Some(by.strip_prefix(" by ")?),
            };
            return Some((kind, split(&rest[..at])?, by));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::any::type_name;
    use std::collections::{BTreeMap, HashMap, HashSet};

    use super::*;

    fn of<T>() -> Type {
        Type::parse(type_name::<T>())
    }

    #[test]
    fn standard_types_are_known_by_the_names_that_the_compiler_gives() {
        let text = || Box::new(Type::Text);
        assert_eq!(of::<Option<String>>(), Type::Option(text()));
        assert_eq!(of::<Vec<Box<i16>>>(), Type::List(Box::new(Type::Signed(2))));
        assert_eq!(
            of::<(u64, (), [f32; 2])>(),
            Type::Tuple(vec![
                Type::Unsigned(8),
                Type::Unit,
                Type::Tuple(vec![Type::Float(4), Type::Float(4)])
            ])
        );
        assert_eq!(of::<(char,)>(), Type::Tuple(vec![Type::Char]));
        let pairs = Type::Map(text(), Box::new(Type::Tuple(vec![Type::Bool, Type::Bool])));
        assert_eq!(of::<BTreeMap<String, (bool, bool)>>(), pairs);
        assert_eq!(of::<HashMap<String, (bool, bool)>>(), pairs);
        assert_eq!(of::<HashSet<String>>(), Type::List(text()));
        assert_eq!(of::<spindle_common::time::Watermark>(), Type::Signed(8));
        struct Vec2;
        assert!(matches!(of::<Vec2>(), Type::Other(_)));
        let own = "shop::Vec<u8>";
        assert_eq!(Type::parse(own), Type::Other(own.to_owned()));
    }

    #[test]
    fn a_schema_is_kind_types_and_key() {
        let key = "(u8, alloc::vec::Vec<u8>)";
        let schema = format!("map<core::option::Option<u8>, {key}> by {key}");
        assert_eq!(
            split_schema(&schema),
            Some((
                "map",
                vec!["core::option::Option<u8>", " (u8, alloc::vec::Vec<u8>)"],
                Some(key)
            ))
        );
        assert_eq!(
            split_schema("output<part files>"),
            Some(("output", vec!["part files"], None))
        );
        assert_eq!(
            split_schema("timers by u8"),
            Some(("timers", vec![], Some("u8")))
        );
        for odd in ["", "value", "value<u8", "value<u8>x", "value<(u8>"] {
            assert_eq!(split_schema(odd), None, "{odd}");
        }
    }
}
