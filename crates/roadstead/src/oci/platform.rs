//! Platforms: what an image runs on, and which one was asked for.
//!
//! Source: image specification, *Image Index*, `platform`; normalisation as containerd and Docker do it.

use std::fmt;
use std::str::FromStr;

use super::digest::excerpt;

/// A platform, normalised: `linux/arm64`, `linux/arm/v7`, `windows/amd64:10.0.20348.1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(from = "Raw")]
pub struct Platform {
    /// The operating system, as `GOOS` spells it.
    pub os: String,
    /// The processor architecture, as `GOARCH` spells it.
    pub architecture: String,
    /// The architecture's variant, such as `v7`.
    pub variant: Option<String>,
    /// The version of the operating system; only Windows images carry one.
    pub os_version: Option<String>,
}

/// The most bytes of a config that are read to learn its platform.
pub const MAX_CONFIG_SIZE: u64 = 4 << 20;

/// A platform as descriptors and configs spell it.
#[derive(serde::Deserialize)]
struct Raw {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default, rename = "os.version")]
    os_version: Option<String>,
}

/// Whether a text can be a part of a platform that somebody asks for.
fn is_word(text: &str) -> bool {
    text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
        && text.len() <= 64
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-.".contains(&c))
}

/// What somebody wrote into a manifest is shown to people, so a part that nobody could ask for is `unknown`.
impl From<Raw> for Platform {
    fn from(raw: Raw) -> Self {
        let name = |text: String| if is_word(&text) { text } else { "unknown".to_owned() };
        let optional = |text: Option<String>| text.filter(|text| !text.is_empty()).map(name);
        let (os, architecture) = (name(raw.os.unwrap_or_default()), name(raw.architecture.unwrap_or_default()));
        Self::new(&os, &architecture, optional(raw.variant).as_deref(), optional(raw.os_version))
    }
}

impl Platform {
    /// The platform that an image's config says; `None` if it says none, as those of artifacts do.
    #[must_use]
    pub fn of_config(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|platform: &Self| !platform.is_unknown())
    }

    /// A platform from its parts, normalised: `x86_64` is `amd64`, `aarch64` is `arm64`, `arm` without a variant is
    /// `arm/v7`, and `arm64/v8` and `amd64/v1` are what those architectures mean without a variant.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>, os_version: Option<String>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.map(str::to_ascii_lowercase).filter(|variant| !variant.is_empty());
        let (architecture, variant) = match architecture.as_str() {
            "x86_64" | "x86-64" | "amd64" => ("amd64".to_owned(), variant.filter(|v| v != "v1")),
            "aarch64" | "arm64" => ("arm64".to_owned(), variant.filter(|v| v != "v8" && v != "8")),
            "i386" => ("386".to_owned(), variant),
            "armhf" => ("arm".to_owned(), Some("v7".to_owned())),
            "armel" => ("arm".to_owned(), Some("v6".to_owned())),
            "arm" => {
                let variant = match variant.as_deref() {
                    None => "v7".to_owned(),
                    Some(bare) if bare.bytes().all(|c| c.is_ascii_digit()) => format!("v{bare}"),
                    Some(named) => named.to_owned(),
                };
                ("arm".to_owned(), Some(variant))
            }
            _ => (architecture, variant),
        };
        Self { os, architecture, variant, os_version: os_version.filter(|version| !version.is_empty()) }
    }

    /// Whether an image for this platform is what somebody means who asks for `wanted`.
    ///
    /// Operating system, architecture and variant must be the same. A version that was asked for must be the image's, or the
    /// beginning of it at a dot: `windows/amd64:10.0.20348` is satisfied by `10.0.20348.1`.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        let version = match (&wanted.os_version, &self.os_version) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wanted), Some(own)) => {
                own.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
        };
        self.os == wanted.os && self.architecture == wanted.architecture && self.variant == wanted.variant && version
    }

    /// Whether this is how an index marks what runs nowhere, such as an attestation: `unknown/unknown`.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        (self.os.is_empty() || self.os == "unknown") && (self.architecture.is_empty() || self.architecture == "unknown")
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}/{}", self.os, self.architecture);
        if let Some(variant) = &self.variant {
            text.push('/');
            text.push_str(variant);
        }
        if let Some(version) = &self.os_version {
            text.push(':');
            text.push_str(version);
        }
        f.pad(&text)
    }
}

impl serde::Serialize for Platform {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: expected OS/ARCHITECTURE[/VARIANT][:OS-VERSION], such as linux/amd64")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let refused = || PlatformError(excerpt(text));
        let (names, version) = match text.split_once(':') {
            None => (text, None),
            Some((names, version)) => (names, Some(version)),
        };
        let mut parts = names.split('/');
        let (Some(os), Some(architecture)) = (parts.next(), parts.next()) else {
            return Err(refused());
        };
        let variant = parts.next();
        let well_formed = is_word(os)
            && is_word(architecture)
            && variant.is_none_or(is_word)
            && version.is_none_or(is_word)
            && parts.next().is_none();
        if !well_formed {
            return Err(refused());
        }
        Ok(Self::new(os, architecture, variant, version.map(str::to_owned)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn spellings_of_one_platform() {
        for (typed, meant) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("windows/amd64:10.0.20348.1", "windows/amd64:10.0.20348.1"),
        ] {
            assert_eq!(platform(typed).to_string(), meant);
        }
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/amd64:", "a b/c", "linux/../x"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn hostile_parts_are_unknown() {
        for (json, meant) in [
            (r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#, "linux/arm64"),
            (r#"{"os":"windows","architecture":"amd64","os.version":"10.0.1"}"#, "windows/amd64:10.0.1"),
            (r#"{"os":"unknown","architecture":"unknown"}"#, "unknown/unknown"),
            ("{}", "unknown/unknown"),
            (r#"{"os":null,"architecture":"","variant":""}"#, "unknown/unknown"),
            (
                r#"{"os":"\u001b[2J","architecture":"../..","variant":"a b","os.version":"é"}"#,
                "unknown/unknown/unknown:unknown",
            ),
        ] {
            let parsed: Platform = serde_json::from_str(json).unwrap();
            assert_eq!(parsed.to_string(), meant, "{json}");
            assert_eq!(platform(meant), parsed, "{json}");
        }
    }

    #[test]
    fn what_satisfies_what() {
        let windows = platform("windows/amd64:10.0.20348.1");
        assert!(windows.satisfies(&platform("windows/amd64")));
        assert!(windows.satisfies(&platform("windows/amd64:10.0.20348")));
        assert!(!windows.satisfies(&platform("windows/amd64:10.0.2034")));
        assert!(!platform("windows/amd64").satisfies(&windows));
        assert!(!platform("linux/arm/v6").satisfies(&platform("linux/arm/v7")));
        assert!(platform("linux/arm64").satisfies(&platform("linux/arm64/v8")));
    }
}
