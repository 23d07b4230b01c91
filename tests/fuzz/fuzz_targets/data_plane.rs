//! The frames between two workers; and whatever somebody says who does not have the secret, neither end takes it for a proof.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spindle_rpc::Secret;
use spindle_worker::fuzzing::{frames, is_believed, is_let_in};
use tokio::io::join;

fuzz_target!(|bytes: &[u8]| {
    frames(bytes);
    let secret = Secret::from_bytes([7; 32]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers can be built");
    runtime.block_on(async {
        assert!(!is_let_in(join(bytes, Vec::new()), &secret).await);
        assert!(!is_believed(join(bytes, Vec::new()), &secret).await);
    });
});
