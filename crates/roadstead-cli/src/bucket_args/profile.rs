//! What `~/.aws/config` says beside credentials.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::environment::Environment;

/// The largest file that is read: people write these by hand.
const MAX_SIZE: u64 = 1 << 20;

/// A profile's settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) region: Option<String>,
    pub(super) endpoint_url: Option<String>,
}

/// Where the settings are.
fn file(environment: &Environment) -> Option<PathBuf> {
    environment.path("AWS_CONFIG_FILE").or_else(|| Some(environment.home()?.join(".aws/config")))
}

impl Profile {
    /// Reads the profile of this name, or the one called `default` if there is one.
    ///
    /// # Errors
    ///
    /// If the file is there and can't be read.
    pub(super) fn read(environment: &Environment, name: Option<&str>) -> anyhow::Result<Self> {
        let Some(file) = file(environment).filter(|file| file.is_file()) else { return Ok(Self::default()) };
        let shown = file.display();
        if file.metadata().is_ok_and(|metadata| metadata.len() > MAX_SIZE) {
            bail!("{shown} is too large for a file of settings");
        }
        let text = std::fs::read_to_string(&file).with_context(|| format!("{shown} can't be read"))?;
        Ok(Self::parse(&text, name.unwrap_or("default")))
    }

    fn parse(text: &str, name: &str) -> Self {
        let mut profile = Self::default();
        let mut within = false;
        // What is indented belongs to a setting that has settings of its own.
        for line in text.lines().filter(|line| !line.starts_with([' ', '\t', '#', ';'])) {
            if let Some(section) = line.trim().strip_prefix('[').and_then(|line| line.split_once(']')) {
                let section = section.0.trim();
                within = match section.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t'])) {
                    Some(section) => section.trim().trim_matches('"') == name,
                    None => section == "default" && name == "default",
                };
            } else if within && let Some((key, value)) = line.split_once('=') {
                let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
                match key.trim() {
                    "region" => profile.region = value,
                    "endpoint_url" => profile.endpoint_url = value,
                    _ => {}
                }
            }
        }
        profile
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles() {
        let text = "region = nowhere\n[default]\nregion = eu-west-1\ns3 =\n  region = x\n# region = y\n[profile r2]\n\
                    endpoint_url=https://r2.example\nregion=auto\n[services x]\nregion = z\n[profile \"a b\"]\nregion = q\n";
        let of = |name| Profile::parse(text, name);
        assert_eq!(of("default"), Profile { region: Some("eu-west-1".into()), endpoint_url: None });
        let r2 = Profile { region: Some("auto".into()), endpoint_url: Some("https://r2.example".into()) };
        assert_eq!(of("r2"), r2);
        assert_eq!(of("a b").region.as_deref(), Some("q"));
        assert_eq!(of("x"), Profile::default());
    }
}
