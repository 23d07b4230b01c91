//! Bytes that come in pieces, taken out as lines.

use bytes::{Buf, BytesMut};
use memchr::memmem::Finder;

/// Holds what came and was not taken. Its memory is bounded by the longest line and one piece.
pub(super) struct LineBuffer {
    delimiter: Finder<'static>,
    /// A `\r` before the delimiter belongs to it.
    strip_return: bool,
    longest: usize,
    bytes: BytesMut,
    /// Length of the line that was handed out last, with its delimiter.
    taken: usize,
    /// Up to here there is no delimiter.
    searched: usize,
    /// What is left is a line, though no delimiter follows.
    is_line: bool,
}

impl LineBuffer {
    pub(super) fn new(delimiter: &str, longest: usize) -> Self {
        Self {
            delimiter: Finder::new(delimiter.as_bytes()).into_owned(),
            strip_return: delimiter == "\n",
            longest,
            bytes: BytesMut::new(),
            taken: 0,
            searched: 0,
            is_line: false,
        }
    }

    /// Where the next piece is to be appended, with room for this many bytes.
    pub(super) fn space(&mut self, bytes: usize) -> &mut BytesMut {
        self.release();
        self.bytes.reserve(bytes);
        &mut self.bytes
    }

    /// Lets go of the line that was handed out.
    fn release(&mut self) {
        self.bytes.advance(std::mem::take(&mut self.taken));
    }

    /// What came without a delimiter is a line.
    pub(super) fn end_line(&mut self) {
        self.release();
        self.is_line = !self.bytes.is_empty();
    }

    /// Drops what came without a delimiter, and says how much it was.
    pub(super) fn drop_begun(&mut self) -> usize {
        self.release();
        let len = self.bytes.len();
        self.bytes.clear();
        self.searched = 0;
        len
    }

    /// The next line; nothing if its end has not come yet.
    ///
    /// # Errors
    /// It is longer than the longest, which is returned.
    pub(super) fn next_line(&mut self) -> Result<Option<&[u8]>, usize> {
        self.release();
        let delimiter = self.delimiter.needle().len();
        let found = self.delimiter.find(&self.bytes[self.searched..]);
        let (len, with_end) = match found {
            Some(at) => (self.searched + at, self.searched + at + delimiter),
            None if std::mem::take(&mut self.is_line) => (self.bytes.len(), self.bytes.len()),
            None => {
                // The delimiter's beginning may have come already.
                self.searched = (self.bytes.len() + 1).saturating_sub(delimiter);
                let begun = self.searched > self.longest;
                return if begun { Err(self.longest) } else { Ok(None) };
            }
        };
        if len > self.longest {
            return Err(self.longest);
        }
        (self.searched, self.taken) = (0, with_end);
        let line = &self.bytes[..len];
        Ok(Some(match line {
            [line @ .., b'\r'] if self.strip_return => line,
            line => line,
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(delimiter: &str, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut buffer = LineBuffer::new(delimiter, 100);
        let mut lines = Vec::new();
        for piece in pieces {
            buffer.space(piece.len()).extend_from_slice(piece);
            while let Some(line) = buffer.next_line().unwrap() {
                lines.push(line.to_vec());
            }
        }
        buffer.end_line();
        while let Some(line) = buffer.next_line().unwrap() {
            lines.push(line.to_vec());
        }
        lines
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_whole_however_it_comes_in_pieces(
            text in "[ab|]{0,40}",
            cuts in prop::collection::vec(0_usize..41, 0..6),
            delimiter in prop_oneof![Just("|"), Just("||"), Just("ab")],
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut <= text.len()).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let mut expected: Vec<_> = text.split(delimiter).map(|line| line.as_bytes().to_vec()).collect();
            // There is no line after the last delimiter.
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(lines(delimiter, &pieces), expected);
        }
    }

    #[test]
    fn a_carriage_return_belongs_to_the_end_of_a_line_of_text() {
        assert_eq!(
            lines("\n", &[b"a\r", b"\nb\rc\n"]),
            [b"a".to_vec(), b"b\rc".to_vec()]
        );
        assert_eq!(lines("|", &[b"a\r|"]), [b"a\r"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_noticed_before_it_ends() {
        let mut buffer = LineBuffer::new("||", 4);
        buffer.space(8).extend_from_slice(b"abcd|");
        assert_eq!(buffer.next_line(), Ok(None));
        buffer.space(8).extend_from_slice(b"|abcde");
        assert_eq!(buffer.next_line(), Ok(Some(&b"abcd"[..])));
        assert_eq!(
            buffer.next_line(),
            Ok(None),
            "the last byte may be the delimiter's first"
        );
        buffer.space(8).extend_from_slice(b"f");
        assert_eq!(buffer.next_line(), Err(4));
        let mut buffer = LineBuffer::new("\n", 4);
        buffer.space(8).extend_from_slice(b"abcde\n");
        assert_eq!(buffer.next_line(), Err(4));
    }
}
