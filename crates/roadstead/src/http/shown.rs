//! URLs as people may see them.

use std::fmt;

use reqwest::Url;

/// A URL without what may be secret in it: user and password, the values of the query, the fragment.
///
/// The query of a signed URL grants access for as long as it is valid, and such URLs are what registries redirect to.
/// The names stay, since they tell what kind of URL it was. `Debug` shows no more than `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownUrl(String);

impl From<&Url> for ShownUrl {
    fn from(url: &Url) -> Self {
        let mut shown = url.clone();
        shown.set_fragment(None);
        shown.set_query(None);
        // Both fail only for URLs without a host, which have no user either.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        let mut text = String::from(shown);
        for (n, (name, _)) in url.query_pairs().take(20).enumerate() {
            text.push(if n == 0 { '?' } else { '&' });
            text.extend(name.chars().filter(char::is_ascii_graphic).take(40));
            text.push_str("=…");
        }
        Self(text)
    }
}

impl fmt::Display for ShownUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ShownUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        let url: Url = "https://user:pass@b.example/v2/x?X-Amz-Signature=abc&expires=1#frag".parse().unwrap();
        assert_eq!(ShownUrl::from(&url).to_string(), "https://b.example/v2/x?X-Amz-Signature=…&expires=…");
        assert_eq!(format!("{:?}", ShownUrl::from(&url)), ShownUrl::from(&url).to_string());
        let plain: Url = "http://127.0.0.1:5000/v2/".parse().unwrap();
        assert_eq!(ShownUrl::from(&plain).to_string(), "http://127.0.0.1:5000/v2/");
    }
}
