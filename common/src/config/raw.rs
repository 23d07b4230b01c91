//! A configuration as written: keys, values and where they stand. Nothing is checked but the form.

use std::collections::BTreeMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::error::ConfigError;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A file.
    File {
        /// Its name as it was opened.
        file: String,
        /// Line, from 1.
        line: usize,
    },
    /// `-D`, followed by this.
    Argument(String),
    /// Another flag of the command line, such as `-p 4`.
    Flag(String),
    /// Another process of ours, which had checked it.
    Shipped,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Argument(argument) => write!(f, "-D {argument}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Shipped => f.write_str("the submission"),
        }
    }
}

/// A value as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawValue {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub origin: Origin,
}

/// Keys and values as written; the last one of a key holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawConfig {
    values: BTreeMap<String, RawValue>,
}

impl RawConfig {
    /// Reads the text of a configuration file: flat keys (`a.b: v`), nested ones (`a: {b: v}`) or both, as Flink does. A list
    /// becomes one value, separated by `;`.
    ///
    /// # Errors
    /// If the text is no YAML, is no mapping of keys to values, or has a key twice. `file` is how the errors name it.
    pub fn from_yaml(text: &str, file: &str) -> Result<Self, ConfigError> {
        let mut reader = Reader {
            parser: Parser::new_from_str(text),
            file,
            lines: text.lines().count().max(1),
            values: BTreeMap::new(),
        };
        reader.document()?;
        Ok(Self {
            values: reader.values,
        })
    }

    /// What another process sent with [`super::Config::to_pairs`].
    pub fn from_pairs<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut raw = Self::default();
        for (key, value) in pairs {
            raw.set(key, value, Origin::Shipped);
        }
        raw
    }

    /// Sets one value over any earlier one.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>, origin: Origin) {
        let text = value.into();
        self.values.insert(key.into(), RawValue { text, origin });
    }

    /// Sets what `-D key=value` says, over any earlier value of that key; `argument` is what follows `-D`.
    ///
    /// # Errors
    /// If there is no `=`, or no key before it.
    pub fn set_argument(&mut self, argument: &str) -> Result<(), ConfigError> {
        match argument.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                let origin = Origin::Argument(argument.to_owned());
                self.set(key.trim(), value.trim(), origin);
                Ok(())
            }
            Some(_) | None => Err(ConfigError::Argument {
                argument: argument.to_owned(),
            }),
        }
    }

    /// Lays another configuration over this one.
    pub fn overlay(&mut self, above: Self) {
        self.values.extend(above.values);
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.values.get(key)
    }

    /// All that is set, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }
}

/// Nested deeper than this, it is no configuration.
const MAX_DEPTH: usize = 32;

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    file: &'a str,
    /// Lines of the text: a fault at its end is found on the line after the last.
    lines: usize,
    values: BTreeMap<String, RawValue>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<(), ConfigError> {
        let mut documents = 0;
        loop {
            match self.event()? {
                (Event::StreamStart | Event::Nothing | Event::DocumentEnd, _) => {}
                (Event::DocumentStart(_), span) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(self.wrong(span, "a second document"));
                    }
                }
                (Event::StreamEnd, _) => return Ok(()),
                (Event::MappingStart(..), _) => self.mapping("", 0)?,
                // An empty document, or one of comments.
                (Event::Scalar(text, ScalarStyle::Plain, ..), _) if is_null(&text) => {}
                (
                    Event::Alias(_)
                    | Event::Scalar(..)
                    | Event::SequenceStart(..)
                    | Event::SequenceEnd
                    | Event::MappingEnd,
                    span,
                ) => return Err(self.wrong(span, "expected lines of the form `key: value`")),
            }
        }
    }

    /// What follows the start of a mapping, its end included.
    fn mapping(&mut self, prefix: &str, depth: usize) -> Result<(), ConfigError> {
        loop {
            let (key, span) = match self.event()? {
                (Event::MappingEnd, _) => return Ok(()),
                (Event::Scalar(key, ..), span) if !key.is_empty() => (key, span),
                (_, span) => return Err(self.wrong(span, "expected a key")),
            };
            let key = if prefix.is_empty() {
                key.into_owned()
            } else {
                format!("{prefix}.{key}")
            };
            match self.event()? {
                (Event::MappingStart(..), span) if depth == MAX_DEPTH => {
                    return Err(self.wrong(span, "nested too deeply"));
                }
                (Event::MappingStart(..), _) => self.mapping(&key, depth + 1)?,
                (Event::SequenceStart(..), _) => {
                    let text = self.sequence(&key)?;
                    self.insert(key, text, span)?;
                }
                (Event::Scalar(text, style, ..), value_span) => {
                    if style == ScalarStyle::Plain && is_null(&text) {
                        let reason = format!("`{key}` has no value");
                        return Err(self.wrong(value_span, &reason));
                    }
                    self.insert(key, text.into_owned(), span)?;
                }
                (_, span) => {
                    let reason = format!("`{key}` has a value of a form that is not understood");
                    return Err(self.wrong(span, &reason));
                }
            }
        }
    }

    /// The items after the start of a sequence, joined.
    fn sequence(&mut self, key: &str) -> Result<String, ConfigError> {
        let mut items = Vec::new();
        loop {
            match self.event()? {
                (Event::SequenceEnd, _) => return Ok(items.join(";")),
                (Event::Scalar(item, ..), _) => items.push(item.into_owned()),
                (_, span) => {
                    let reason = format!("`{key}` is a list of something else than texts");
                    return Err(self.wrong(span, &reason));
                }
            }
        }
    }

    fn insert(&mut self, key: String, text: String, span: Span) -> Result<(), ConfigError> {
        let origin = self.origin(span.start.line());
        if let Some(earlier) = self.values.get(&key) {
            return Err(ConfigError::Syntax {
                origin,
                reason: format!("`{key}` is set twice, first at {}", earlier.origin),
            });
        }
        self.values.insert(key, RawValue { text, origin });
        Ok(())
    }

    fn event(&mut self) -> Result<(Event<'a>, Span), ConfigError> {
        match self.parser.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.broken(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn broken(&self, error: &ScanError) -> ConfigError {
        ConfigError::Syntax {
            origin: self.origin(error.marker().line()),
            reason: format!("not YAML: {}", error.info()),
        }
    }

    fn wrong(&self, span: Span, reason: &str) -> ConfigError {
        ConfigError::Syntax {
            origin: self.origin(span.start.line()),
            reason: reason.to_owned(),
        }
    }

    fn origin(&self, line: usize) -> Origin {
        Origin::File {
            file: self.file.to_owned(),
            line: line.clamp(1, self.lines),
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null")
}
