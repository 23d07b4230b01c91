//! Reads lines of text.

use std::sync::Arc;

use spindle_dataflow::connector::OperatorError;
use spindle_hadoop::fs::DEFAULT_CHUNK;

use super::cursor::LineCursor;
use super::format::{Decode, Format, ReadSettings, RecordPosition};
use super::split::FileSplit;
use crate::context::IoContext;

/// The format of [`super::FileSource::lines`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines(pub(super) ());

impl Format<String> for Lines {
    type Decoder = LineDecoder;

    fn decoder(&self, io: &Arc<IoContext>, settings: &ReadSettings) -> LineDecoder {
        LineDecoder {
            io: Arc::clone(io),
            settings: settings.clone(),
            cursor: None,
        }
    }
}

pub(super) struct LineDecoder {
    io: Arc<IoContext>,
    settings: ReadSettings,
    cursor: Option<LineCursor>,
}

/// Opens what the decoders of lines read.
pub(super) fn open(
    io: &Arc<IoContext>,
    settings: &ReadSettings,
    split: &FileSplit,
    from: Option<RecordPosition>,
) -> Result<LineCursor, OperatorError> {
    LineCursor::open(io, split, settings.compression, from, DEFAULT_CHUNK)
}

/// Where the cursor of a decoder stands; the beginning, if it has none.
pub(super) fn position(cursor: Option<&LineCursor>) -> RecordPosition {
    cursor.map_or(
        RecordPosition {
            offset: 0,
            line: Some(1),
        },
        LineCursor::position,
    )
}

impl Decode<String> for LineDecoder {
    fn open(
        &mut self,
        split: &FileSplit,
        from: Option<RecordPosition>,
    ) -> Result<(), OperatorError> {
        self.cursor = Some(open(&self.io, &self.settings, split, from)?);
        Ok(())
    }

    fn decode(&mut self, out: &mut Vec<String>, most: usize) -> Result<bool, OperatorError> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(false);
        };
        for _ in 0..most {
            let Some(start) = cursor.next_line()? else {
                return Ok(false);
            };
            match std::str::from_utf8(cursor.content()) {
                Ok(text) => out.push(text.to_owned()),
                Err(error) => {
                    let at = start.offset + error.valid_up_to() as u64;
                    self.settings.bad_records.handle(not_utf8(cursor, at))?;
                }
            }
        }
        Ok(true)
    }

    fn position(&self) -> RecordPosition {
        position(self.cursor.as_ref())
    }

    fn file_offset(&self) -> u64 {
        self.cursor.as_ref().map_or(0, LineCursor::file_offset)
    }
}

fn not_utf8(cursor: &LineCursor, at: u64) -> OperatorError {
    OperatorError::permanent(format!(
        "`{}` is not UTF-8 text: the character at byte {at} is none",
        cursor.split().file
    ))
}
