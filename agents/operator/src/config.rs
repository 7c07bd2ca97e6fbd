//! `optimus config`: the settings in force, in postconf's manner.

use agents::daemon::Options;
use anyhow::{Context, Result};
use serde_json::Value;
use settings::Settings;

use crate::say;

pub(crate) fn print(options: &Options) -> Result<()> {
    lines(&Settings::load(&options.config_directory)?)?.iter().for_each(say);
    Ok(())
}

/// Returns a line `table.name = value` for each setting. An unset setting has an empty value.
fn lines(settings: &Settings) -> Result<Vec<String>> {
    let value = serde_json::to_value(settings)?;
    let tables = value.as_object().context("settings: not made of tables")?;
    let settings = tables.iter().flat_map(|(table, settings)| {
        let settings = settings.as_object().into_iter().flatten();
        settings.map(move |(name, value)| {
            format!("{table}.{name} = {}", text(value)).trim_end().to_owned()
        })
    });
    Ok(settings.collect())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_line_that_names_it() {
        let mut settings = Settings::default();
        settings.redis.url = Some("unix:///x".to_owned());
        let lines = lines(&settings).unwrap();
        assert!(lines.contains(&"redis.url = unix:///x".to_owned()), "{lines:?}");
        assert!(lines.contains(&"redis.user =".to_owned()), "{lines:?}");
        assert!(lines.contains(&"lots.size = 200".to_owned()), "{lines:?}");
    }
}
