//! Links libgcc's unwinder statically.
//!
//! Every Rust program names it, and with `panic = "abort"` none of ours ever runs it; but as the shared libgcc_s it costs
//! each start the opening, mapping and relocating of a library. Where the archive isn't found, the shared library is used.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let output = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    let path =
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if let Some(folder) = Path::new(&path).parent().filter(|folder| folder.is_absolute()) {
        println!("cargo:rustc-link-search=native={}", folder.display());
        println!("cargo:rustc-link-lib=static:+whole-archive=gcc_eh");
    }
}
