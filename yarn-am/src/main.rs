//! The executable of the ApplicationMaster. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    spindle_yarn_am::main()
}
