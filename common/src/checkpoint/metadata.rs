//! What a snapshot's `_metadata` says: which operators it has, what their states are, and where each byte of them lies.
//!
//! ```text
//! frame, the same in all versions          body of version 2
//!   magic     8 bytes  "SPDLMETA"            job        16 bytes
//!   version   u32                            checkpoint u64
//!   length    u64      of the body           kind       u8
//!   body      bytes                          timestamp  i64   ms since the epoch
//!   checksum  u32      CRC-32C of all        paths      [text]   each file once
//!                      before it             operators  [uid text, name text, parallelism u32,
//!                                                        max parallelism u32, states [..],
//!                                                        finished subtasks [u32]]
//!   state   name text, distribution u8, schema text, chunks [index u32, entries u64, content]
//!   content 0, bytes  or  1, index into paths u32, offset u64, length u64, checksum u32
//! ```
//!
//! Version 1 has no finished subtasks.
//!
//! Numbers are little-endian, `text` and `bytes` are a length (u32) and as many bytes, `[..]` is a count (u32) and as many items.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{
    CheckpointId, Distribution, FileRange, SnapshotKind, StateChunk, StateHandle, StateSnapshot,
    checksum,
};
use crate::id::JobId;

const MAGIC: [u8; 8] = *b"SPDLMETA";
/// Version of the body that this build writes. It reads those before it, too.
pub const METADATA_VERSION: u32 = 2;
/// Magic, version and length.
const HEAD: usize = 20;
const CHECKSUM: usize = 4;

/// A whole snapshot. Flink: `CheckpointMetadata`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMetadata {
    /// The job that it is of.
    pub job: JobId,
    /// Its number in that job.
    pub checkpoint: CheckpointId,
    /// What it is for.
    pub kind: SnapshotKind,
    /// When it was triggered, in milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The operators that have state, or subtasks that had finished.
    pub operators: Vec<OperatorMetadata>,
}

/// What a snapshot has of one operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorMetadata {
    /// Its uid, by which it is found again.
    pub uid: String,
    /// Its name, for people.
    pub name: String,
    /// Subtasks that wrote it.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// By name, each with the chunks of all subtasks.
    pub states: Vec<StateSnapshot>,
    /// Those of its subtasks that had finished, ascending.
    pub finished: Vec<u32>,
}

impl OperatorMetadata {
    /// Whether all its subtasks had finished. Flink: `FullyFinishedOperatorState`.
    pub const fn is_fully_finished(&self) -> bool {
        self.parallelism > 0 && self.finished.len() == self.parallelism as usize
    }
}

/// Bytes that are not the metadata of a snapshot, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Something else altogether.
    #[error("it does not begin as the metadata of a snapshot does")]
    NotMetadata,
    /// Bytes are missing, or there are more.
    #[error("it has {found} bytes where it should have {expected}")]
    Length {
        /// As it says itself; of less than a head, the least that there are.
        expected: u64,
        /// As there are.
        found: u64,
    },
    /// Bytes were changed.
    #[error("it is damaged: its checksum is {found:08x} where its last bytes say {expected:08x}")]
    Checksum {
        /// As written at its end.
        expected: u32,
        /// Of what is there.
        found: u32,
    },
    /// By another release.
    #[error("it is of version {found}, and this release reads versions up to {METADATA_VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// Whole as its writer left it, and yet wrong.
    #[error("it was written wrongly: byte {offset} of its body is {what}")]
    Malformed {
        /// Where in the body.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

impl SnapshotMetadata {
    /// Its file's content.
    ///
    /// # Panics
    /// If a text, a list or an inline state has more than 2³² − 1 bytes or items.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder {
            bytes: MAGIC.to_vec(),
        };
        out.u32(METADATA_VERSION);
        out.u64(0);
        out.bytes.extend_from_slice(&self.job.to_bytes());
        out.u64(self.checkpoint.0);
        out.bytes.push(kind_code(self.kind));
        out.bytes
            .extend_from_slice(&self.timestamp_ms.to_le_bytes());
        let (paths, numbers) = self.paths();
        out.list(&paths, |out, path| out.text(path));
        out.list(&self.operators, |out, operator| {
            out.text(&operator.uid);
            out.text(&operator.name);
            out.u32(operator.parallelism);
            out.u32(operator.max_parallelism);
            out.list(&operator.states, |out, state| {
                out.text(&state.name);
                out.bytes.push(distribution_code(state.distribution));
                out.text(&state.schema);
                out.list(&state.chunks, |out, chunk| out.chunk(chunk, &numbers));
            });
            out.list(&operator.finished, |out, subtask| out.u32(*subtask));
        });
        let mut bytes = out.bytes;
        let length = (bytes.len() - HEAD) as u64;
        bytes[12..HEAD].copy_from_slice(&length.to_le_bytes());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// What a file's content says. Whatever it is, an answer is the one that was written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, MetadataError> {
        let (version, body) = body(bytes)?;
        let mut input = Decoder { body, offset: 0 };
        let job = JobId::from_bytes(input.array()?);
        let checkpoint = CheckpointId(input.u64()?);
        let kind = match input.u8()? {
            0 => SnapshotKind::Checkpoint,
            1 => SnapshotKind::Savepoint,
            2 => SnapshotKind::StopWithSavepoint,
            3 => SnapshotKind::Drain,
            _ => return Err(input.malformed("no kind of snapshot")),
        };
        let timestamp_ms = i64::from_le_bytes(input.array()?);
        let paths = input.list(Decoder::text)?;
        let operators = input.list(|input| {
            Ok(OperatorMetadata {
                uid: input.text()?,
                name: input.text()?,
                parallelism: input.u32()?,
                max_parallelism: input.u32()?,
                states: input.list(|input| input.state(&paths))?,
                finished: match version {
                    1 => Vec::new(),
                    _ => input.list(Decoder::u32)?,
                },
            })
        })?;
        if input.offset != input.body.len() {
            return Err(input.malformed("beyond the last operator"));
        }
        Ok(Self {
            job,
            checkpoint,
            kind,
            timestamp_ms,
            operators,
        })
    }

    /// All chunks of all states.
    pub fn chunks(&self) -> impl Iterator<Item = &StateChunk> {
        let states = self.operators.iter().flat_map(|operator| &operator.states);
        states.flat_map(|state| &state.chunks)
    }

    /// The files that it refers to, each once, and the number of each.
    fn paths(&self) -> (Vec<&str>, HashMap<&str, u32>) {
        let (mut paths, mut numbers) = (Vec::new(), HashMap::new());
        for chunk in self.chunks() {
            if let StateHandle::File(range) = &chunk.content {
                numbers.entry(&*range.path).or_insert_with(|| {
                    paths.push(&*range.path);
                    count(paths.len() - 1)
                });
            }
        }
        (paths, numbers)
    }
}

const fn kind_code(kind: SnapshotKind) -> u8 {
    match kind {
        SnapshotKind::Checkpoint => 0,
        SnapshotKind::Savepoint => 1,
        SnapshotKind::StopWithSavepoint => 2,
        SnapshotKind::Drain => 3,
    }
}

const fn distribution_code(distribution: Distribution) -> u8 {
    match distribution {
        Distribution::KeyGroup => 0,
        Distribution::Split => 1,
        Distribution::Union => 2,
        Distribution::Broadcast => 3,
        Distribution::InFlight => 4,
    }
}

fn count(items: usize) -> u32 {
    u32::try_from(items).expect("no list of a snapshot has four billion items")
}

/// Takes the frame off, and answers the version of what is in it.
fn body(bytes: &[u8]) -> Result<(u32, &[u8]), MetadataError> {
    let found = bytes.len() as u64;
    if bytes.len() < HEAD + CHECKSUM {
        return Err(if MAGIC.starts_with(&bytes[..bytes.len().min(8)]) {
            let expected = (HEAD + CHECKSUM) as u64;
            MetadataError::Length { expected, found }
        } else {
            MetadataError::NotMetadata
        });
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(MetadataError::NotMetadata);
    }
    let mut head = Decoder {
        body: &bytes[8..HEAD],
        offset: 0,
    };
    let (version, length) = (head.u32()?, head.u64()?);
    let expected = length.saturating_add((HEAD + CHECKSUM) as u64);
    if expected != found {
        return Err(MetadataError::Length { expected, found });
    }
    let (checked, stored) = bytes.split_at(bytes.len() - CHECKSUM);
    let stored = stored.try_into().map(u32::from_le_bytes);
    let (expected, found) = (
        stored.expect("four bytes were split off"),
        checksum(checked),
    );
    if expected != found {
        return Err(MetadataError::Checksum { expected, found });
    }
    if !(1..=METADATA_VERSION).contains(&version) {
        return Err(MetadataError::Version { found: version });
    }
    Ok((version, &checked[HEAD..]))
}

struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(count(bytes.len()));
        self.bytes.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.u32(count(items.len()));
        for each in items {
            item(self, each);
        }
    }

    fn chunk(&mut self, chunk: &StateChunk, paths: &HashMap<&str, u32>) {
        self.u32(chunk.index);
        self.u64(chunk.entries);
        match &chunk.content {
            StateHandle::Inline(bytes) => {
                self.bytes.push(0);
                self.bytes(bytes);
            }
            StateHandle::File(range) => {
                self.bytes.push(1);
                self.u32(paths[&*range.path]);
                self.u64(range.offset);
                self.u64(range.length);
                self.u32(range.checksum);
            }
        }
    }
}

struct Decoder<'a> {
    body: &'a [u8],
    offset: usize,
}

impl Decoder<'_> {
    const fn malformed(&self, what: &'static str) -> MetadataError {
        MetadataError::Malformed {
            offset: self.offset,
            what,
        }
    }

    fn take(&mut self, length: usize) -> Result<&[u8], MetadataError> {
        let left = self.body.len() - self.offset;
        if length > left {
            return Err(self.malformed("too near to its end for what begins there"));
        }
        let taken = &self.body[self.offset..self.offset + length];
        self.offset += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MetadataError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many bytes were taken"))
    }

    fn u8(&mut self) -> Result<u8, MetadataError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, MetadataError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, MetadataError> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, MetadataError> {
        let length = self.u32()? as usize;
        self.take(length).map(<[u8]>::to_vec)
    }

    fn text(&mut self) -> Result<String, MetadataError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes).map_err(|_| self.malformed("the end of a text that is none"))
    }

    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, MetadataError>,
    ) -> Result<Vec<T>, MetadataError> {
        let count = self.u32()?;
        // The count is only what it says: room is made as items come.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn state(&mut self, paths: &[String]) -> Result<StateSnapshot, MetadataError> {
        Ok(StateSnapshot {
            name: self.text()?,
            distribution: match self.u8()? {
                0 => Distribution::KeyGroup,
                1 => Distribution::Split,
                2 => Distribution::Union,
                3 => Distribution::Broadcast,
                4 => Distribution::InFlight,
                _ => return Err(self.malformed("no distribution")),
            },
            schema: self.text()?,
            chunks: self.list(|input| {
                Ok(StateChunk {
                    index: input.u32()?,
                    entries: input.u64()?,
                    content: input.content(paths)?,
                })
            })?,
        })
    }

    fn content(&mut self, paths: &[String]) -> Result<StateHandle, MetadataError> {
        match self.u8()? {
            0 => self.bytes().map(StateHandle::Inline),
            1 => {
                let path = self.u32()? as usize;
                let Some(path) = paths.get(path) else {
                    return Err(self.malformed("beyond the list of files"));
                };
                Ok(StateHandle::File(FileRange {
                    path: path.clone(),
                    offset: self.u64()?,
                    length: self.u64()?,
                    checksum: self.u32()?,
                }))
            }
            _ => Err(self.malformed("neither inline nor a file")),
        }
    }
}

#[cfg(test)]
mod tests;
