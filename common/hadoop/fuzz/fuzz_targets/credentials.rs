//! Credentials that are understood are written so that they are read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spindle_hadoop::token::Credentials;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(credentials) = Credentials::decode(bytes) {
        assert_eq!(
            Credentials::decode(&credentials.encode()).ok(),
            Some(credentials)
        );
    }
});
