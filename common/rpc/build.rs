//! Compiles `proto/*.proto` to Rust; protox stands in for protoc, so nothing has to be installed.

use std::error::Error;

const FILES: [&str; 5] = [
    "checkpoint.proto",
    "task.proto",
    "job_graph.proto",
    "job_manager.proto",
    "worker.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    let descriptors = protox::compile(FILES, ["proto"])?;
    // Without the generated transport, whose `connect` would clash with the method of that name.
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
