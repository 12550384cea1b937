//! Patterns for names of repositories and tags.

use std::fmt;
use std::str::FromStr;

/// A pattern: `?` stands for a character, `*` for any number of them, neither for a slash; `**` also for slashes.
/// Everything else stands for itself, and the whole name must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    tokens: Box<[Token]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    Character,
    Run,
    RunOfAll,
}

/// A text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an empty pattern matches no name")]
pub struct PatternError;

impl Pattern {
    /// Whether a name matches. Takes time in proportion to both lengths, whatever the pattern is.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut states = vec![false; self.tokens.len() + 1];
        states[0] = true;
        self.skip_runs(&mut states);
        for character in name.chars() {
            let mut next = vec![false; states.len()];
            for (position, token) in self.tokens.iter().enumerate().filter(|(position, _)| states[*position]) {
                match token {
                    Token::Literal(literal) => next[position + 1] |= *literal == character,
                    Token::Character => next[position + 1] |= character != '/',
                    Token::Run => next[position] |= character != '/',
                    Token::RunOfAll => next[position] = true,
                }
            }
            self.skip_runs(&mut next);
            if !next.contains(&true) {
                return false;
            }
            states = next;
        }
        states[self.tokens.len()]
    }

    /// Runs may be empty.
    fn skip_runs(&self, states: &mut [bool]) {
        for (position, token) in self.tokens.iter().enumerate() {
            states[position + 1] |= states[position] && matches!(token, Token::Run | Token::RunOfAll);
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError);
        }
        let mut tokens = Vec::new();
        for character in text.chars() {
            match (character, tokens.last()) {
                ('*', Some(Token::Run | Token::RunOfAll)) => {
                    tokens.pop();
                    tokens.push(Token::RunOfAll);
                }
                ('*', _) => tokens.push(Token::Run),
                ('?', _) => tokens.push(Token::Character),
                (literal, _) => tokens.push(Token::Literal(literal)),
            }
        }
        Ok(Self { text: text.into(), tokens: tokens.into() })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_whole() {
        for (pattern, name, expected) in [
            ("app", "app", true),
            ("app", "apps", false),
            ("app", "org/app", false),
            ("*", "app", true),
            ("*", "org/app", false),
            ("**", "org/team/app", true),
            ("org/*", "org/app", true),
            ("org/*", "org/team/app", false),
            ("org/**", "org/team/app", true),
            ("**/app", "org/team/app", true),
            ("v?.*", "v1.2.3", true),
            ("v?.*", "v12.3", false),
            ("?", "/", false),
            ("*-rc*", "1.0-rc1", true),
            ("*-rc*", "1.0", false),
        ] {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(name), expected, "{pattern} and {name}");
        }
        assert_eq!("".parse::<Pattern>(), Err(PatternError));
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern: Pattern = "*a".repeat(60).parse().unwrap();
        assert!(!pattern.matches(&"a".repeat(59)));
        assert!(pattern.matches(&"a".repeat(128)));
    }
}
