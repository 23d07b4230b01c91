//! Records as Parquet.

use std::marker::PhantomData;

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_arrow::ArrayBuilder;
use serde_arrow::schema::{SchemaLike, SerdeArrowSchema, TracingOptions};

use spindle_dataflow::connector::{OperatorError, Sink};

use super::super::FileSink;
use super::super::encode::Encode;
use super::{ROWS, first_line};
use crate::connector::{SinkFactory, SinkPlan};
use crate::context::{PlanContext, PlanError, SinkContext};

/// Bytes of a row group, before they are packed, unless told otherwise. Hadoop: `parquet.block.size`.
const ROW_GROUP: usize = 128 << 20;

/// How the pages of a Parquet file are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParquetCompression {
    /// Not at all.
    None,
    /// Quickly.
    Snappy,
    /// Well.
    #[default]
    Zstd,
}

/// The format of [`FileSink::parquet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParquetRows {
    compression: ParquetCompression,
    row_group: usize,
}

impl Default for ParquetRows {
    fn default() -> Self {
        Self {
            compression: ParquetCompression::default(),
            row_group: ROW_GROUP,
        }
    }
}

impl FileSink<ParquetRows> {
    /// One row for each record, into `part-<subtask>.parquet`. With the crate's feature `parquet`; see
    /// [`FileSource::parquet`](super::super::FileSource::parquet) for an example.
    ///
    /// The columns are derived from the type, by the way that it is read (`Deserialize`): a struct's fields, with lists, maps and
    /// structs in them; an `Option` may be missing; an enum without data is text. A type that can only be read from certain text,
    /// such as a date's, has none: write the text, or a number. A subtask without records writes a file without rows.
    pub fn parquet(uri: impl Into<String>) -> Self {
        Self::new(uri, ParquetRows::default())
    }

    /// How pages are packed; zstd if it is not called.
    #[must_use]
    pub const fn compression(mut self, compression: ParquetCompression) -> Self {
        self.format.compression = compression;
        self
    }

    /// About how many bytes a row group has in memory, 128 MiB if it is not called. The sink holds that many.
    #[must_use]
    pub const fn row_group_size(mut self, bytes: usize) -> Self {
        self.format.row_group = bytes;
        self
    }
}

impl<T: Serialize + DeserializeOwned + 'static> SinkFactory<T> for FileSink<ParquetRows> {
    fn plan(&self, context: &PlanContext) -> Result<SinkPlan, PlanError> {
        ParquetEncoder::<T>::new(self.format).map_err(PlanError::Input)?;
        self.check(context)
    }

    fn sink(&self, context: SinkContext) -> Result<Box<dyn Sink<T>>, OperatorError> {
        let format = self.format;
        self.open(&context, Box::new(move || ParquetEncoder::<T>::new(format)))
    }
}

/// Gathers records into columns, and columns into row groups.
struct ParquetEncoder<T> {
    columns: ArrayBuilder,
    gathered: usize,
    writer: ArrowWriter<Vec<u8>>,
    encoded: PhantomData<fn(T)>,
}

impl<T: Serialize + DeserializeOwned> ParquetEncoder<T> {
    /// An encoder for this type, or why it cannot be written as Parquet.
    fn new(format: ParquetRows) -> Result<Self, String> {
        let options = TracingOptions::default()
            .map_as_struct(false)
            .enums_without_data_as_strings(true);
        let not_derived = |error: serde_arrow::Error| {
            format!(
                "no Parquet schema can be derived from `{}`: {}",
                std::any::type_name::<T>(),
                first_line(&error)
            )
        };
        let schema = SerdeArrowSchema::from_type::<T>(options).map_err(not_derived)?;
        let mut columns = ArrayBuilder::new(schema).map_err(not_derived)?;
        let fields = columns.to_record_batch().map_err(not_derived)?.schema();
        let compression = match format.compression {
            ParquetCompression::None => Compression::UNCOMPRESSED,
            ParquetCompression::Snappy => Compression::SNAPPY,
            ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        };
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_bytes(Some(format.row_group.max(1)))
            .build();
        // What others may read has Parquet's types alone.
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), fields, options);
        let writer = writer.map_err(|error| {
            format!(
                "`{}` cannot be written as Parquet: {error}",
                std::any::type_name::<T>()
            )
        })?;
        Ok(Self {
            columns,
            gathered: 0,
            writer,
            encoded: PhantomData,
        })
    }

    fn write_columns(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.gathered) == 0 {
            return Ok(());
        }
        let columns = self.columns.to_record_batch();
        let columns = columns.map_err(|error| first_line(&error))?;
        self.writer
            .write(&columns)
            .map_err(|error| error.to_string())
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Encode<T> for ParquetEncoder<T> {
    fn extension(&self) -> String {
        "parquet".to_owned()
    }

    fn encode(&mut self, records: &[T], into: &mut Vec<u8>) -> Result<(), String> {
        self.columns
            .extend(records)
            .map_err(|error| first_line(&error))?;
        self.gathered += records.len();
        if self.gathered >= ROWS {
            self.write_columns()?;
            into.append(self.writer.inner_mut());
        }
        Ok(())
    }

    fn end(&mut self, into: &mut Vec<u8>) -> Result<(), String> {
        self.write_columns()?;
        self.writer.finish().map_err(|error| error.to_string())?;
        into.append(self.writer.inner_mut());
        Ok(())
    }
    fn held(&self) -> u64 {
        self.writer.in_progress_size() as u64
    }
}
