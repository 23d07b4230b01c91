//! A stream cut into frames comes out the same however it comes in, and no frame is longer than the limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spindle_hadoop::ipc::frame::FrameDecoder;

const LIMIT: usize = 1 << 16;

fn frames(bytes: &[u8], step: usize) -> (Vec<bytes::Bytes>, bool) {
    let mut decoder = FrameDecoder::new(LIMIT);
    let mut found = Vec::new();
    for chunk in bytes.chunks(step) {
        decoder.extend(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = frames(bytes, bytes.len().max(1));
    assert!(whole.0.iter().all(|frame| frame.len() <= LIMIT));
    assert_eq!(whole, frames(bytes, 3));
});
