//! Submits mail: see `postdrop_rs::sendmail`.

fn main() -> std::process::ExitCode {
    postdrop_rs::sendmail::main()
}
