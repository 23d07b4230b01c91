//! Compiles `proto/*.proto` to Rust; protox stands in for protoc, so nothing has to be installed.

use std::error::Error;

const FILES: [&str; 6] = [
    "rpc.proto",
    "security.proto",
    "ha.proto",
    "yarn_protos.proto",
    "yarn_service_protos.proto",
    "yarn_security_token.proto",
];

/// Messages that carry passwords or keys: their `Debug` is written by hand in `src/proto.rs`.
const SECRETIVE: [&str; 4] = [
    "hadoop.common.Token",
    "hadoop.common.CredentialsKV",
    "hadoop.yarn.ContainerLaunchContext",
    "hadoop.yarn.RegisterApplicationMasterResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    let descriptors = protox::compile(FILES, ["proto"])?;
    prost_build::Config::new()
        .skip_debug(SECRETIVE)
        .compile_fds(descriptors)?;
    Ok(())
}
