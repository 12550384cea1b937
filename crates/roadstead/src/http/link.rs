//! The next page of a list.
//!
//! Source: distribution specification, "Listing Tags"; RFC 8288, section 3 (`Link`).

use ::http::HeaderMap;
use ::http::header::LINK;
use reqwest::Url;

/// The path and query of the next page, if the answer from `current` names one.
///
/// A registry behind a proxy often spells its own name wrongly in there (`http` where it is reached by `https`), so an
/// absolute URL's scheme and port are ignored and only its host must be the one that was asked.
///
/// # Errors
///
/// What is wrong with it: it leads to another host, or it is no URL.
pub(super) fn next_page(headers: &HeaderMap, current: &Url) -> Result<Option<String>, String> {
    for value in headers.get_all(LINK) {
        let text = value.to_str().map_err(|_| "the Link header is no text".to_owned())?;
        for (target, parameters) in links(text) {
            if !parameters.split(';').any(is_next) {
                continue;
            }
            let next = current.join(target).map_err(|_| "the Link header holds no URL".to_owned())?;
            if next.host_str() != current.host_str() || !matches!(next.scheme(), "http" | "https") {
                return Err("the Link header leads to another host".to_owned());
            }
            let mut page = next.path().to_owned();
            if let Some(query) = next.query() {
                page.push('?');
                page.push_str(query);
            }
            return Ok(Some(page));
        }
    }
    Ok(None)
}

/// The targets and parameters of `<target>; parameters, <target>; …`. A comma within a target is no separator.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        let end = after.find('<').unwrap_or(after.len());
        let (parameters, remainder) = after.split_at(end);
        rest = remainder;
        Some((target, parameters.trim_end_matches([',', ' ', '\t'])))
    })
}

fn is_next(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, value)| {
        name.trim().eq_ignore_ascii_case("rel")
            && value.trim().trim_matches('"').split(' ').any(|relation| relation.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_pages() {
        let current: Url = "https://r.example:5000/v2/a/tags/list?n=2".parse().unwrap();
        let next = |text: &str| next_page(&HeaderMap::from_iter([(LINK, text.parse().unwrap())]), &current);
        let page = Ok(Some("/v2/a/tags/list?n=2&last=b".to_owned()));
        for text in [
            "</v2/a/tags/list?n=2&last=b>; rel=\"next\"",
            "</v2/a/tags/list?n=2&last=b>;rel=next",
            "<?n=2&last=b>; REL=\"prev next\"",
            "<https://r.example:5000/v2/a/tags/list?n=2&last=b>; rel=\"next\"",
            "<http://r.example/v2/a/tags/list?n=2&last=b>; title=x; rel=\"next\"",
            "</x,y>; rel=\"prev\", </v2/a/tags/list?n=2&last=b>; rel=\"next\"",
        ] {
            assert_eq!(next(text), page, "{text}");
        }
        for none in ["</x>; rel=\"prev\"", "</x>", "x", "<", ""] {
            assert_eq!(next(none), Ok(None), "{none}");
        }
        for bad in ["<https://evil.example/x>; rel=next", "<file:///x>; rel=next", "<http://[>; rel=next"] {
            assert!(next(bad).is_err(), "{bad} was followed");
        }
    }
}
