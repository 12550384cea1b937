//! How a 401 says what it wants.
//!
//! Source: RFC 9110, section 11.6.1 (`WWW-Authenticate`); distribution's "Token Authentication Specification".

use ::http::HeaderMap;
use ::http::header::WWW_AUTHENTICATE;

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme, in lower case.
    pub(crate) scheme: String,
    /// Its parameters, names in lower case, quotes and escapes gone.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter. The first of a name counts.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// All challenges of an answer: several header lines, several challenges in one line, or both.
pub(crate) fn parse(headers: &HeaderMap) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for line in headers.get_all(WWW_AUTHENTICATE) {
        parse_line(line.as_bytes(), &mut challenges);
    }
    challenges
}

/// Reads one line. A comma separates parameters as well as challenges; what follows a word tells which: `=` makes it a
/// parameter's name, anything else a scheme.
fn parse_line(line: &[u8], challenges: &mut Vec<Challenge>) {
    let text = String::from_utf8_lossy(line);
    let mut rest = text.as_ref();
    let mut in_line = false;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t', ';']);
        let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            let mut characters = rest.chars();
            if characters.next().is_none() {
                return;
            }
            // No word begins like this: something that was quoted wrongly, or the padding of a token68.
            rest = characters.as_str();
            continue;
        }
        let ahead = after.trim_start_matches([' ', '\t']);
        if let Some(value) = ahead.strip_prefix('=')
            && in_line
            && let Some(challenge) = challenges.last_mut()
        {
            let (value, after) = parse_value(value.trim_start_matches([' ', '\t']));
            challenge.parameters.push((word.to_ascii_lowercase(), value));
            rest = after;
        } else {
            challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            in_line = true;
            rest = ahead;
        }
    }
}

fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        // Some registries leave the quotes off a URL, so more than a token is taken.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(c),
        }
    }
    (value, "")
}

/// RFC 9110, section 5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Vec<(String, Vec<(String, String)>)> {
        let headers: HeaderMap = lines.iter().map(|line| (WWW_AUTHENTICATE, line.parse().unwrap())).collect();
        parse(&headers).into_iter().map(|c| (c.scheme, c.parameters)).collect()
    }

    fn one(scheme: &str, parameters: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        (scheme.to_owned(), parameters.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn challenges() {
        let bearer = one(
            "bearer",
            &[("realm", "https://auth.example/token"), ("service", "r.example"), ("scope", "repository:a/b:pull,push")],
        );
        let line = r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#;
        let bearer_alone = vec![bearer.clone()];
        assert_eq!(of(&[line]), bearer_alone);
        assert_eq!(of(&[&line.replace(',', " , ").replace("pull , push", "pull,push")]), bearer_alone);
        assert_eq!(of(&[&line.replace("realm=", "REALM = ")]), bearer_alone);
        let basic = one("basic", &[("realm", "a \"quoted\" realm, with = and ,")]);
        let basic_line = r#"Basic realm="a \"quoted\" realm, with = and ,""#;
        assert_eq!(of(&[basic_line, line]), [basic.clone(), bearer.clone()], "two lines");
        assert_eq!(of(&[&format!("{basic_line}, {line}")]), [basic.clone(), bearer.clone()], "one line");
        assert_eq!(of(&[&format!("{line}, {basic_line}")]), [bearer, basic], "one line, the other way round");
        assert_eq!(of(&["Negotiate", "Basic"]), [one("negotiate", &[]), one("basic", &[])]);
        assert_eq!(of(&["Bearer realm=https://a/token,service=x"])[0].1[0].1, "https://a/token", "no quotes");
    }

    #[test]
    fn nonsense_is_survived() {
        for line in
            ["", ",,,", "=", "\"", "Bearer realm=\"unterminated", "Bearer realm=", "a=b=c", "Negotiate abc==", "é"]
        {
            let headers: HeaderMap =
                [(WWW_AUTHENTICATE, ::http::HeaderValue::from_bytes(line.as_bytes()).unwrap())].into_iter().collect();
            let _ = parse(&headers);
        }
    }
}
