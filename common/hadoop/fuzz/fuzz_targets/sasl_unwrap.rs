//! Nothing unwraps that was not wrapped with the key; what was wrapped does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spindle_hadoop::sasl::{Layer, Qop};

fuzz_target!(|bytes: &[u8]| {
    for qop in [Qop::Integrity, Qop::Privacy] {
        let mut client = Layer::client(qop, &[7; 16]).expect("these protect");
        let mut server = Layer::server(qop, &[7; 16]).expect("these protect");
        assert_eq!(
            client.open.unwrap(&server.seal.wrap(bytes)).as_deref(),
            Ok(bytes)
        );
        let _ = server.open.unwrap(bytes);
    }
});
