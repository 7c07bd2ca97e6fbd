//! Submits records: see `postdrop_rs::postdrop`.

fn main() -> std::process::ExitCode {
    postdrop_rs::postdrop::main()
}
