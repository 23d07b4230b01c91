//! Reads JSON lines.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use spindle_dataflow::connector::OperatorError;

use super::cursor::LineCursor;
use super::format::{Decode, Format, ReadSettings, RecordPosition};
use super::lines;
use super::split::FileSplit;
use crate::context::IoContext;

/// The format of [`super::FileSource::json_lines`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonRecords<T>(pub(super) PhantomData<fn() -> T>);

impl<T: DeserializeOwned + 'static> Format<T> for JsonRecords<T> {
    type Decoder = JsonDecoder;

    fn decoder(&self, io: &Arc<IoContext>, settings: &ReadSettings) -> JsonDecoder {
        JsonDecoder {
            io: Arc::clone(io),
            settings: settings.clone(),
            cursor: None,
        }
    }
}

pub(super) struct JsonDecoder {
    io: Arc<IoContext>,
    settings: ReadSettings,
    cursor: Option<LineCursor>,
}

impl<T: DeserializeOwned> Decode<T> for JsonDecoder {
    fn open(
        &mut self,
        split: &FileSplit,
        from: Option<RecordPosition>,
    ) -> Result<(), OperatorError> {
        self.cursor = Some(lines::open(&self.io, &self.settings, split, from)?);
        Ok(())
    }

    fn decode(&mut self, out: &mut Vec<T>, most: usize) -> Result<bool, OperatorError> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(false);
        };
        for _ in 0..most {
            let Some(start) = cursor.next_line()? else {
                return Ok(false);
            };
            let content = cursor.content();
            match serde_json::from_slice(content) {
                Ok(record) => out.push(record),
                Err(_) if content.iter().all(u8::is_ascii_whitespace) => {}
                Err(_) => {
                    let fault = fault::<T>(content);
                    let place = cursor.place(start);
                    let error = OperatorError::permanent(format!("{place}{fault}"));
                    self.settings.bad_records.handle(error)?;
                }
            }
        }
        Ok(true)
    }

    fn position(&self) -> RecordPosition {
        lines::position(self.cursor.as_ref())
    }

    fn file_offset(&self) -> u64 {
        self.cursor.as_ref().map_or(0, LineCursor::file_offset)
    }
}

/// What is wrong with a record that cannot be decoded, and in which of its fields: reads it again, with a record of the way.
fn fault<T: DeserializeOwned>(content: &[u8]) -> String {
    let mut json = serde_json::Deserializer::from_slice(content);
    let (field, error) = match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Ok(_) => match json.end() {
            Ok(()) => return " cannot be decoded".to_owned(),
            Err(error) => (String::new(), error),
        },
        Err(error) => {
            let field = match error.path().to_string() {
                root if root == "." => String::new(),
                field => format!(" field `{field}`:"),
            };
            (field, error.into_inner())
        }
    };
    // The parser's line is always 1, and ours is said already.
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(&*text, |(text, _)| text);
    format!("{field} {text} (column {})", error.column())
}
