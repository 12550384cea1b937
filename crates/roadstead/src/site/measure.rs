//! What hosts limit.

use std::fmt;
use std::str::FromStr;

/// Something that a host takes only so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// The number of files.
    Files,
    /// The bytes of one file.
    FileSize,
    /// The bytes of all files.
    SiteSize,
    /// The number of rules for headers.
    HeaderRules,
    /// The number of redirects for one path each.
    Redirects,
    /// The number of redirects with a pattern.
    PatternRedirects,
    /// The bytes of one line of the configuration.
    LineLength,
    /// The bytes of the configuration.
    ConfigSize,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Files,
        Self::FileSize,
        Self::SiteSize,
        Self::HeaderRules,
        Self::Redirects,
        Self::PatternRedirects,
        Self::LineLength,
        Self::ConfigSize,
    ];

    /// The word by which people choose it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::FileSize => "file-size",
            Self::SiteSize => "site-size",
            Self::HeaderRules => "header-rules",
            Self::Redirects => "redirects",
            Self::PatternRedirects => "pattern-redirects",
            Self::LineLength => "line-length",
            Self::ConfigSize => "config-size",
        }
    }

    /// Whether it is a limit of files, and so depends on everything that a tree holds.
    #[must_use]
    pub const fn is_of_files(self) -> bool {
        matches!(self, Self::Files | Self::FileSize | Self::SiteSize)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::FileSize => "bytes in a file",
            Self::SiteSize => "bytes in all files",
            Self::HeaderRules => "rules for headers",
            Self::Redirects => "redirects",
            Self::PatternRedirects => "redirects by pattern",
            Self::LineLength => "bytes in a line",
            Self::ConfigSize => "bytes of configuration",
        })
    }
}

/// A limit that is higher for somebody, since they pay for it or the host has changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised {
    /// What is limited.
    pub measure: Measure,
    /// The limit.
    pub at_most: u64,
}

/// A text says of no limit how high it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not MEASURE=NUMBER, the measure being one of {words}", words = Measure::ALL.map(Measure::name).join(", "))]
pub struct RaisedError(String);

impl FromStr for Raised {
    type Err = RaisedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || RaisedError(text.to_owned());
        let (word, number) = text.split_once('=').ok_or_else(refused)?;
        let measure = Measure::ALL.into_iter().find(|measure| measure.name() == word).ok_or_else(refused)?;
        Ok(Self { measure, at_most: number.parse().map_err(|_| refused())? })
    }
}
