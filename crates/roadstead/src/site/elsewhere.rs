//! Places to which a site sends clients for what it doesn't hold itself.

use std::fmt;

/// Where blobs or manifests lie: an `http` or `https` URL.
///
/// Either the base of another registry or tree, below which they have the paths of the API (`https://blobs.example`), or a
/// pattern with `{name}` and `{digest}`; for a digest's two halves `{algorithm}` and `{hex}`
/// (`https://host/files/{hex}`). Manifests have `{reference}`, which may be a tag, in place of a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere(Vec<Piece>);

/// A piece of the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// What stands there.
    Text(String),
    /// The repository's name.
    Name,
    /// The digest, or a reference that may be a tag.
    Reference,
    /// The digest's algorithm.
    Algorithm,
    /// The digest's digits.
    Hex,
}

/// A text is not a place elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not a place to redirect to: {problem}")]
pub struct ElsewhereError {
    url: String,
    problem: &'static str,
}

impl Elsewhere {
    /// Blobs at a URL.
    ///
    /// # Errors
    ///
    /// If it is not a URL of `http` or `https`, has characters that a URL can't have, or a pattern that names no blob.
    pub fn blobs(url: &str) -> Result<Self, ElsewhereError> {
        let place = Self::parse(url, "blobs")?;
        let whole = place.0.contains(&Piece::Reference);
        let halves = place.0.contains(&Piece::Hex);
        if whole || halves { Ok(place) } else { Err(refused(url, "it has neither {digest} nor {hex}")) }
    }

    /// Manifests at a URL.
    ///
    /// # Errors
    ///
    /// As [`Elsewhere::blobs`]; a tag has no halves, so only `{reference}` will do.
    pub fn manifests(url: &str) -> Result<Self, ElsewhereError> {
        let place = Self::parse(url, "manifests")?;
        let halves = place.0.iter().any(|piece| matches!(piece, Piece::Hex | Piece::Algorithm));
        match place.0.contains(&Piece::Reference) {
            true if !halves => Ok(place),
            true => Err(refused(url, "a tag has neither {algorithm} nor {hex}")),
            false => Err(refused(url, "it has no {reference}")),
        }
    }

    fn parse(url: &str, folder: &str) -> Result<Self, ElsewhereError> {
        // No quote, backslash, `$`, `*`, space or control character: what stands here goes into configurations as it is.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?@!&=+%,{}".contains(c);
        if !url.chars().all(plain) {
            return Err(refused(url, "it has a character that stands for itself in no host's configuration"));
        }
        let parsed = url::Url::parse(&url.replace(['{', '}'], "x")).ok();
        let Some(parsed) = parsed.filter(|parsed| matches!(parsed.scheme(), "http" | "https") && parsed.has_host())
        else {
            return Err(refused(url, "expected http://HOST or https://HOST"));
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(refused(url, "everybody would see the password"));
        }
        let authority = url.split('/').nth(2).unwrap_or_default();
        if authority.contains(['{', '}']) {
            return Err(refused(url, "the host's name can't depend on what is asked for"));
        }
        if !url.contains('{') {
            let base = Piece::Text(format!("{}/v2/", url.trim_end_matches('/')));
            return Ok(Self(vec![base, Piece::Name, Piece::Text(format!("/{folder}/")), Piece::Reference]));
        }
        let mut pieces = Vec::new();
        let mut rest = url;
        while let Some((before, behind)) = rest.split_once('{') {
            let (word, after) = behind.split_once('}').ok_or_else(|| refused(url, "a { without }"))?;
            if before.contains('}') {
                return Err(refused(url, "a } without {"));
            }
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match word {
                "name" => Piece::Name,
                "digest" if folder == "blobs" => Piece::Reference,
                "reference" if folder == "manifests" => Piece::Reference,
                "algorithm" => Piece::Algorithm,
                "hex" => Piece::Hex,
                _ => return Err(refused(url, "it has a {word} that means nothing here")),
            });
            rest = after;
        }
        if rest.contains('}') {
            return Err(refused(url, "a } without {"));
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Self(pieces))
    }

    /// The pieces of the URL.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The URL, with something in place of what depends on what is asked for.
    pub fn written(&self, mut piece: impl FnMut(&Piece) -> String) -> String {
        self.0.iter().map(&mut piece).collect()
    }
}

fn refused(url: &str, problem: &'static str) -> ElsewhereError {
    ElsewhereError { url: url.to_owned(), problem }
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Name => f.write_str("{name}"),
            Piece::Reference => f.write_str("{reference}"),
            Piece::Algorithm => f.write_str("{algorithm}"),
            Piece::Hex => f.write_str("{hex}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bases_or_patterns() {
        let base = Elsewhere::blobs("https://blobs.example/").unwrap();
        assert_eq!(base.to_string(), "https://blobs.example/v2/{name}/blobs/{reference}");
        let flat = Elsewhere::blobs("https://host.example:8443/files/{hex}?x=1").unwrap();
        assert_eq!(flat.pieces().last(), Some(&Piece::Text("?x=1".to_owned())));
        let manifests = Elsewhere::manifests("http://m.example/r").unwrap();
        assert_eq!(manifests.to_string(), "http://m.example/r/v2/{name}/manifests/{reference}");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for bad in [
            "",
            "blobs.example",
            "ftp://blobs.example",
            "https://",
            "https://user:secret@blobs.example",
            "https://blobs.example/{other}",
            "https://blobs.example/{hex",
            "https://blobs.example/hex}{hex}",
            "https://blobs.example/{name}",
            "https://{name}.example/{hex}",
            "https://blobs.example/a b",
            "https://blobs.example/\"{hex}",
            "https://blobs.example/$1/{hex}",
            "https://blobs.example/\n{hex}",
        ] {
            assert!(Elsewhere::blobs(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(Elsewhere::manifests("https://m.example/{hex}/{reference}").is_err());
    }
}
