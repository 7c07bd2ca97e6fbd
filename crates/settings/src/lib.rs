//! optimus.toml and where it is found
