//! Part files that are packed as a whole.

use std::io::{self, Write};

use flate2::write::GzEncoder;

use super::compression::Packing;
use super::encode::Encode;

/// Encodes records, and packs what comes out if that is wanted.
pub(super) struct Packed<E> {
    records: E,
    packer: Option<Packer>,
    /// What is to be packed.
    plain: Vec<u8>,
}

enum Packer {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl<E> Packed<E> {
    pub(super) fn new(records: E, packing: Option<Packing>) -> Result<Self, String> {
        let packer = packing.map(Packer::new).transpose();
        Ok(Self {
            records,
            packer: packer.map_err(|error| error.to_string())?,
            plain: Vec::new(),
        })
    }
}

impl Packer {
    fn new(packing: Packing) -> io::Result<Self> {
        Ok(match packing {
            Packing::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default())),
            Packing::Zstd => {
                let level = zstd::DEFAULT_COMPRESSION_LEVEL;
                Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), level)?)
            }
        })
    }

    const fn packing(&self) -> Packing {
        match self {
            Self::Gzip(_) => Packing::Gzip,
            Self::Zstd(_) => Packing::Zstd,
        }
    }

    fn write(&mut self, plain: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(packer) => packer.write_all(plain),
            Self::Zstd(packer) => packer.write_all(plain),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(packer) => packer.try_finish(),
            Self::Zstd(packer) => packer.do_finish(),
        }
    }

    /// Appends what is packed.
    fn take(&mut self, into: &mut Vec<u8>) {
        into.append(match self {
            Self::Gzip(packer) => packer.get_mut(),
            Self::Zstd(packer) => packer.get_mut(),
        });
    }
}

impl<T, E: Encode<T>> Encode<T> for Packed<E> {
    fn extension(&self) -> String {
        let plain = self.records.extension();
        match &self.packer {
            Some(packer) => format!("{plain}.{}", packer.packing().extension()),
            None => plain,
        }
    }

    fn encode(&mut self, records: &[T], into: &mut Vec<u8>) -> Result<(), String> {
        let Some(packer) = &mut self.packer else {
            return self.records.encode(records, into);
        };
        self.records.encode(records, &mut self.plain)?;
        let packed = packer.write(&self.plain);
        self.plain.clear();
        packer.take(into);
        packed.map_err(|error| error.to_string())
    }

    fn end(&mut self, into: &mut Vec<u8>) -> Result<(), String> {
        let Some(packer) = &mut self.packer else {
            return self.records.end(into);
        };
        self.records.end(&mut self.plain)?;
        let packed = packer.write(&self.plain).and_then(|()| packer.finish());
        self.plain.clear();
        packer.take(into);
        packed.map_err(|error| error.to_string())
    }

    fn held(&self) -> u64 {
        self.records.held()
    }
}
