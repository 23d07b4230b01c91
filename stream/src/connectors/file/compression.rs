//! Packed files: gzip and zstd.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;

use spindle_dataflow::connector::OperatorError;

use super::bytes::SplitBytes;
use super::split::FileSplit;
use crate::context::IoContext;

/// Unpacked bytes that are handed on at once.
const UNPACKED_CHUNK: usize = 256 << 10;

/// How the bytes of input files are packed. A packed file may consist of several gzip members or zstd frames, one after the
/// other. It is read by one subtask, as it can only be read from its beginning.
///
/// ```
/// use spindle_stream::connectors::file::{Compression, FileSource};
///
/// let by_name = FileSource::lines("hdfs:///logs/*.gz");
/// let stated = FileSource::lines("hdfs:///logs/access").compression(Compression::Zstd);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As the file's name says: `.gz` is gzip, `.zst` is zstd, any other is not packed.
    #[default]
    ByName,
    /// Not packed, whatever the name.
    None,
    /// gzip, whatever the name.
    Gzip,
    /// zstd, whatever the name.
    Zstd,
}

/// How whole files are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// gzip; `.gz`.
    Gzip,
    /// zstd; `.zst`.
    Zstd,
}

impl Packing {
    /// What the names of its files end with, after a dot.
    pub(super) const fn extension(self) -> &'static str {
        match self {
            Self::Gzip => "gz",
            Self::Zstd => "zst",
        }
    }

    /// The one of files that end so.
    pub(super) fn of_extension(text: &str) -> Option<Self> {
        [Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|packing| packing.extension() == text)
    }
}

impl Compression {
    /// How this file is packed, if it is.
    pub(super) fn of(self, file: &str) -> Option<Packing> {
        match self {
            Self::ByName if file.ends_with(".gz") => Some(Packing::Gzip),
            Self::ByName if file.ends_with(".zst") => Some(Packing::Zstd),
            Self::ByName | Self::None => None,
            Self::Gzip => Some(Packing::Gzip),
            Self::Zstd => Some(Packing::Zstd),
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// The bytes of a split, unpacked if need be.
pub(super) enum InputBytes {
    Plain(SplitBytes),
    Packed(Unpacker),
}

impl InputBytes {
    /// Opens a split, to be read in pieces of `chunk` bytes from its first line, or from an offset at which a line of it is known to start:
    /// one of the unpacked bytes.
    pub(super) fn open(
        io: &Arc<IoContext>,
        split: FileSplit,
        compression: Compression,
        from: Option<u64>,
        chunk: usize,
    ) -> Result<Self, OperatorError> {
        let Some(packing) = compression.of(&split.file) else {
            return SplitBytes::open(io, split, from, chunk).map(Self::Plain);
        };
        let mut unpacker = Unpacker::new(packing, SplitBytes::open(io, split, None, chunk)?)?;
        unpacker.skip(from.unwrap_or(0))?;
        Ok(Self::Packed(unpacker))
    }

    /// The next bytes; nothing at the end.
    pub(super) fn next_bytes(&mut self) -> Result<Option<Bytes>, OperatorError> {
        match self {
            Self::Plain(bytes) => Ok(bytes.next_bytes()?.map(|(_, bytes)| bytes)),
            Self::Packed(unpacker) => unpacker.next_bytes(),
        }
    }

    /// Offset of the first byte that will be read, among the unpacked ones.
    pub(super) fn first_offset(&mut self) -> Result<u64, OperatorError> {
        match self {
            Self::Plain(bytes) => bytes.first_offset(),
            Self::Packed(unpacker) => Ok(unpacker.offset),
        }
    }

    /// How far the packed bytes of the file were read, if they are packed.
    pub(super) fn packed_offset(&self) -> Option<u64> {
        match self {
            Self::Plain(_) => None,
            Self::Packed(unpacker) => Some(unpacker.source().offset()),
        }
    }

    /// What is read.
    pub(super) fn split(&self) -> &FileSplit {
        match self {
            Self::Plain(bytes) => bytes.split(),
            Self::Packed(unpacker) => unpacker.source().split(),
        }
    }
}

/// Unpacks a file from its beginning.
pub(super) struct Unpacker {
    packing: Packing,
    decoder: Decoder,
    /// Unpacked bytes that were handed out, or skipped.
    offset: u64,
    /// The rest of the bytes in the middle of which [`Self::skip`] ended.
    skipped_to: Bytes,
    buffer: BytesMut,
    /// What stands behind the bytes that were handed out.
    failed: Option<io::Error>,
}

enum Decoder {
    Gzip(Box<MultiGzDecoder<SplitBytes>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, SplitBytes>>),
}

impl Unpacker {
    fn new(packing: Packing, bytes: SplitBytes) -> Result<Self, OperatorError> {
        let decoder = match packing {
            Packing::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(bytes))),
            Packing::Zstd => {
                let file = bytes.split().file.clone();
                let decoder = zstd::stream::read::Decoder::with_buffer(bytes);
                Decoder::Zstd(Box::new(decoder.map_err(|error| {
                    OperatorError::transient(format!("cannot unpack `{file}`: {error}"))
                })?))
            }
        };
        Ok(Self {
            packing,
            decoder,
            offset: 0,
            skipped_to: Bytes::new(),
            buffer: BytesMut::new(),
            failed: None,
        })
    }

    fn source(&self) -> &SplitBytes {
        match &self.decoder {
            Decoder::Gzip(decoder) => decoder.get_ref(),
            Decoder::Zstd(decoder) => decoder.get_ref(),
        }
    }

    fn next_bytes(&mut self) -> Result<Option<Bytes>, OperatorError> {
        let bytes = if self.skipped_to.is_empty() {
            self.unpack()?
        } else {
            Some(std::mem::take(&mut self.skipped_to))
        };
        self.offset += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(bytes)
    }

    fn unpack(&mut self) -> Result<Option<Bytes>, OperatorError> {
        if let Some(error) = self.failed.take() {
            return Err(self.error(error));
        }
        // Once what was handed out is gone, this takes the same memory again.
        self.buffer.resize(UNPACKED_CHUNK, 0);
        let mut filled = 0;
        while filled < UNPACKED_CHUNK {
            let into = &mut self.buffer[filled..];
            let read = match &mut self.decoder {
                Decoder::Gzip(decoder) => decoder.read(into),
                Decoder::Zstd(decoder) => decoder.read(into),
            };
            match read {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What came before is whole.
                Err(error) if filled > 0 => {
                    self.failed = Some(error);
                    break;
                }
                Err(error) => return Err(self.error(error)),
            }
        }
        Ok((filled > 0).then(|| self.buffer.split_to(filled).freeze()))
    }

    /// Goes on to this offset of the unpacked bytes.
    fn skip(&mut self, to: u64) -> Result<(), OperatorError> {
        while self.offset < to {
            let Some(mut bytes) = self.unpack()? else {
                break;
            };
            let wanted = usize::try_from(to - self.offset).unwrap_or(usize::MAX);
            if wanted < bytes.len() {
                self.skipped_to = bytes.split_off(wanted);
            }
            self.offset += bytes.len() as u64;
        }
        Ok(())
    }

    fn error(&self, error: io::Error) -> OperatorError {
        let error = match error.downcast::<OperatorError>() {
            Ok(error) => return error,
            Err(error) => error,
        };
        let Self { packing, .. } = self;
        let (file, at) = (&self.source().split().file, self.source().offset());
        OperatorError::permanent(if error.kind() == ErrorKind::UnexpectedEof {
            format!(
                "`{file}` is truncated: it ends at byte {at}, in the middle of its {packing} data"
            )
        } else {
            format!(
                "`{file}` cannot be unpacked beyond byte {at}: {error}; is it {packing}, and whole?"
            )
        })
    }
}
