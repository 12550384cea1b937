//! Caddy: one fixed Caddyfile, whatever the tree holds, never reloaded when images come and go.
//!
//! Caddy has no way to say where a link leads. A digest's type is found by looking into the folder of each known type, and
//! then of all (`try_files` takes a pattern): one look costs a fifth of what a file does. Nothing looks whether the
//! repository has that digest: the file server does so as it opens the file, and passes on what isn't there. What is asked
//! for whole, as pulls do, comes before everything else, and without an expression: Caddy builds each route anew for each
//! request that gets to it, all that stands in it included.
//!
//! A tag has no digest to look for: a template reads what it leads to, hashes it, and looks for the folder that holds that
//! digest; so type, digest and body follow from one reading here, too. That is ten times slower, which a pull, asking for
//! one tag, does not notice. A template that does nothing costs three times as much as a plain file, since Caddy makes and
//! parses it for each request, so no other template would be much better, and nothing but templates can read or hash.
//! [`Site::pinned`] is the alternative ([`pins`]): a configuration that names what the tree holds, made anew and reloaded
//! for each image.
//!
//! Traps that the text avoids:
//!
//! - a template that includes a file executes what looks like an action in it. The delimiters have a quotation mark behind
//!   a `~` in them, and before a `<`: a JSON text can't have that, inside a string or outside, and a tree's manifests and
//!   lists are JSON;
//! - `file_server` sets an `ETag` of its own, and compares conditions with that: so headers are deferred to when the
//!   answer begins, and conditions are decided before;
//! - a body and its head go out in two pieces, and wake a client twice, unless the file server is told a status; but
//!   with one, an answer to a condition would have it as well, so only requests without any take that way;
//! - more than one range would be answered with `multipart/byteranges`, which no client of a registry expects;
//! - `path` compares without regard to case, so it decides nothing alone: a file has to be there, or a map to have the very
//!   path. All else is matched by an expression.

mod pins;
mod template;

use std::net::SocketAddr;

use http::header::{ACCEPT_RANGES, CONTENT_TYPE, ETAG};

use super::plain;
use super::text::Text;
use super::{ConfigFile, Group, Host, MANIFEST_TYPES, Unsupported};
use crate::site::{
    self, Answer, Body, Content, Form, METHOD_NOT_ALLOWED, PAGE_TYPES, PREFLIGHT, PathPattern, RULES, Rule, Site, Value,
};

/// Caddy.
pub(super) struct Caddy;

const NAME: &str = "caddy";

impl Host for Caddy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Server
    }

    fn summary(&self) -> &'static str {
        "2.6 and later: one fixed Caddyfile, never reloaded for images"
    }

    fn pins(&self) -> bool {
        true
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        plain::refuse_for(NAME, site)?;
        let root = root(&site.root)?;
        let mut text = Text::default();
        text.line(if site.pinned {
            "# A registry of plain files. Made by roadstead; names the tree's tags: to be made anew and reloaded when one moves."
        } else {
            "# A registry of plain files. Made by roadstead; the same for every tree, so it is never reloaded for images."
        });
        let (name, place) = match site.form {
            Form::Edge => return Err(Unsupported::Form { host: NAME, form: site.form }),
            Form::Snippet => {
                routes(&mut text, site, &root);
                ("roadstead.caddy", "import it inside the site that is to answer")
            }
            Form::Site | Form::Standalone => {
                let (port, bind) = listen(&site.listen)?;
                if site.form == Form::Standalone {
                    text.open("");
                    for line in ["admin off", "auto_https off"] {
                        text.line(line);
                    }
                    text.close();
                    text.line("");
                }
                text.open(&format!("http://:{port}"));
                if let Some(bind) = bind {
                    text.line(&format!("bind {bind}"));
                }
                routes(&mut text, site, &root);
                text.close();
                if site.form == Form::Site {
                    ("roadstead.caddy", "import it in /etc/caddy/Caddyfile, then caddy reload")
                } else {
                    ("Caddyfile", "run it with caddy run --config FILE --adapter caddyfile")
                }
            }
        };
        Ok(vec![ConfigFile { name: name.to_owned(), place: place.to_owned(), text: formatted(&text.finish()).into() }])
    }
}

/// As `caddy fmt` wants it: indented by tabs.
fn formatted(text: &str) -> String {
    let line = |line: &str| {
        let rest = line.trim_start_matches("    ");
        let depth = (line.len() - rest.len()) / 4;
        "\t".repeat(depth) + rest.trim_start() + "\n"
    };
    text.lines().map(line).collect()
}

fn refused(what: &'static str, value: &str, problem: &'static str) -> Unsupported {
    Unsupported::Value { host: NAME, what, value: value.to_owned(), problem }
}

/// The place of the tree, checked: it can stand between backticks.
fn root(given: &str) -> Result<String, Unsupported> {
    const WHAT: &str = "the tree's place";
    if given.is_empty() {
        return Err(refused(WHAT, given, "it is empty"));
    }
    if given.chars().any(char::is_control) {
        return Err(refused(WHAT, given, "it has a control character"));
    }
    if given.contains(['`', '{', '}', '*', '?', '[', ']', '\\']) {
        return Err(refused(WHAT, given, "it has a character that means something else in a Caddyfile"));
    }
    Ok(given.trim_end_matches('/').to_owned())
}

/// Where to listen: the port, and what it is bound to if not to every address.
fn listen(given: &str) -> Result<(u16, Option<String>), Unsupported> {
    let port = |port: &str| port.parse::<u16>().ok().filter(|n| *n > 0 && !port.starts_with('+'));
    if let Ok(address) = given.parse::<SocketAddr>()
        && address.port() > 0
    {
        return Ok((address.port(), Some(address.ip().to_string())));
    }
    if let Some(port) = port(given) {
        return Ok((port, None));
    }
    match given.strip_prefix("unix:") {
        Some(path)
            if path.starts_with('/') && path.bytes().all(|c| c.is_ascii_alphanumeric() || b"/._-".contains(&c)) =>
        {
            Ok((80, Some(format!("unix/{path}"))))
        }
        _ => {
            Err(refused("the address to listen on", given, "expected PORT, ADDRESS:PORT, [ADDRESS]:PORT or unix:/PATH"))
        }
    }
}

/// A text, quoted. In no text of the rules is there a backtick.
fn quoted(text: &str) -> String {
    format!("`{text}`")
}

/// A name for a matcher, and for the captures of its expression.
fn matcher(pattern: PathPattern) -> String {
    format!("roadstead_{}", format!("{pattern:?}").to_ascii_lowercase())
}

/// An expression in the syntax of Go.
fn regex(pattern: PathPattern, site: &Site) -> String {
    quoted(&pattern.regex(site.name_prefix.as_ref()).replace("(?<", "(?P<"))
}

/// The headers of an answer. `page_type` is the type of a page.
fn headers(text: &mut Text, site: &Site, answer: &Answer, page_type: &str) {
    text.open("header");
    for (name, value) in site.headers(answer) {
        match value {
            Value::Fixed(value) if name != ACCEPT_RANGES => {
                text.line(&format!("{} {}", site::spelled(&name), quoted(value)));
            }
            Value::OfPage => text.line(&format!("{} {}", site::spelled(&name), quoted(page_type))),
            _ => {}
        }
    }
    text.close();
    if answer.body == Body::Object {
        // Caddy sets these when the answer begins.
        text.open("header");
        text.line("-Last-Modified");
        text.line("-Etag");
        if !answer.headers.iter().any(|(name, _)| *name == ACCEPT_RANGES) {
            text.line("-Accept-Ranges");
        }
        text.line("defer");
        text.close();
    }
}

/// Answers by itself.
fn fixed(text: &mut Text, site: &Site, answer: &Answer) {
    let Body::Fixed(body) = &answer.body else { return };
    headers(text, site, answer, "");
    text.line(&format!("respond {} {}", quoted(body), answer.status.as_u16()));
}

/// Answers what is asked with a method, if the site takes it.
fn methods(text: &mut Text, site: &Site) {
    if site.cors {
        text.line("@roadstead_preflight method OPTIONS");
        text.open("handle @roadstead_preflight");
        fixed(text, site, &PREFLIGHT);
        text.close();
    }
    text.line("@roadstead_refused not method GET HEAD");
    text.open("handle @roadstead_refused");
    fixed(text, site, &METHOD_NOT_ALLOWED);
    text.close();
}

/// Everything that the rules say, the first match first.
fn routes(text: &mut Text, site: &Site, root: &str) {
    let pinned = |text: &mut Text| {
        text.line(&format!("root * {}", quoted(root)));
        pins::names(text, site, PathPattern::ManifestByDigest.rule());
        pins::names(text, site, PathPattern::ManifestByTag.rule());
    };
    // Where the site is ours, before anything else is asked.
    let first = site.pinned && site.form != Form::Snippet;
    if first {
        text.open("route");
        pinned(text);
    }
    text.line("@roadstead path_regexp ^/v2(/|$)");
    text.open("handle @roadstead");
    text.open("route");
    if site.pinned && !first {
        pinned(text);
    } else {
        text.line(&format!("root * {}", quoted(root)));
    }
    if site.name_prefix.is_none() {
        known(text, site, root);
    }
    // Everything else in a route of its own: Caddy builds a whole route anew for each request that gets to it.
    text.open("route");
    methods(text, site);
    // What is there and what pulls consist of comes first: Go's expressions are slow, and nothing lies under a path that
    // a loose one takes and the grammar doesn't.
    for pattern in [PathPattern::ManifestByDigest, PathPattern::Blob, PathPattern::ManifestByTag] {
        frequent(text, site, pattern.rule());
    }
    for rule in RULES.iter() {
        if matches!(rule.pattern, PathPattern::Page | PathPattern::Outside) {
            continue;
        }
        endpoint(text, site, rule);
        if site.name_prefix.is_some() && rule.found.is_some() && rule.pattern != PathPattern::Catalog {
            // What lacks the prefix is missing, in the way that fits the path.
            let name = format!("{}_outside", matcher(rule.pattern));
            text.line(&format!("@{name} path_regexp {}", quoted(&rule.pattern.regex(None).replace("(?<", "(?P<"))));
            text.open(&format!("handle @{name}"));
            fixed(text, site, &rule.missing);
            text.close();
        }
    }
    text.close();
    text.close();
    text.close();
    if site.form != Form::Snippet {
        text.open("handle");
        text.open("route");
        text.line(&format!("root * {}", quoted(root)));
        text.line("@roadstead_refused not method GET HEAD");
        text.open("handle @roadstead_refused");
        fixed(text, site, &METHOD_NOT_ALLOWED);
        text.close();
        pages(text, site);
        text.open("handle");
        fixed(text, site, &PathPattern::Outside.rule().missing);
        text.close();
        text.close();
        text.close();
    }
    if first {
        text.close();
    }
}

/// What lies under a path of a frequent form, if anything does.
fn frequent(text: &mut Text, site: &Site, rule: &Rule) {
    let Some(found) = &rule.found else { return };
    let name = matcher(rule.pattern);
    let prefix = site.name_prefix.as_ref().map(|p| p.as_str().replace('.', "[.]") + "/").unwrap_or_default();
    let (kind, last) = match rule.pattern {
        PathPattern::Blob => ("blobs", "sha[0-9]+:[0-9a-f]+"),
        PathPattern::ManifestByTag => ("manifests", "[A-Za-z0-9_][A-Za-z0-9._-]*"),
        _ => ("manifests", "sha[0-9]+:[0-9a-f]+"),
    };
    let loose = format!("^/v2/{prefix}([a-z0-9._/-]+)/{kind}/({last})$");
    // In one matcher both would be asked in any order. A route, other than a handle, goes on where nothing in it answers.
    text.line(&format!("@{name}_loose path_regexp {name} {}", quoted(&loose)));
    text.open(&format!("route @{name}_loose"));
    if rule.pattern == PathPattern::ManifestByDigest {
        by_digest(text, site, found, &name);
        text.close();
        return;
    }
    text.line(&format!("@found file /v2/{{re.{name}.1}}/{kind}/{{re.{name}.2}}"));
    text.open("handle @found");
    text.open("route");
    let digest = format!("{{re.{name}.2}}");
    match rule.pattern {
        PathPattern::Blob => ranges(text, site, found, &digest),
        _ => template::manifest(text, site, found),
    }
    text.close();
    text.close();
    text.close();
}

/// Manifests of known types by their digests, where nobody asks for less than a whole one. Nothing of this is an expression:
/// `path` takes other paths as well, but under none of them lies a file of such a name.
fn known(text: &mut Text, site: &Site, root: &str) {
    let rule = PathPattern::ManifestByDigest.rule();
    let Some(found) = &rule.found else { return };
    let name = format!("{}_known", matcher(rule.pattern));
    simple(text, &name, &["method GET HEAD", "path */manifests/sha*"]);
    text.open(&format!("route @{name}"));
    for (index, media_type) in MANIFEST_TYPES.iter().enumerate() {
        text.open(&format!("@type{index} file"));
        text.line(&format!("root {}", quoted(&format!("{root}/content/manifests/{media_type}"))));
        text.line("try_files /{file}");
        text.close();
        text.open(&format!("route @type{index}"));
        sent(text, site, found, "{file}", Some(media_type));
        text.close();
    }
    text.close();
}

/// A matcher for requests without conditions and ranges. Its lines are asked in any order.
fn simple(text: &mut Text, name: &str, more: &[&str]) {
    text.open(&format!("@{name}"));
    for name in ["Range", "If-Range", "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"] {
        text.line(&format!("header !{name}"));
    }
    for line in more {
        text.line(line);
    }
    text.close();
}

/// Sends what lies under the path, whole, if something does. If nothing does, what follows answers as if we hadn't tried.
fn sent(text: &mut Text, site: &Site, found: &Answer, digest: &str, media_type: Option<&str>) {
    fixed_headers(text, site, found, digest, media_type);
    // Deferred to when the answer begins, whoever gives it: so what is missing takes the tag away again.
    text.open("header");
    text.line(&format!("ETag {}", quoted(&format!("\"{digest}\""))));
    for line in ["-Last-Modified", "-{http.response.header.Roadstead-Missing}", "-Roadstead-Missing", "defer"] {
        text.line(line);
    }
    text.close();
    text.open("file_server");
    // With a status of ours head and body go out in one piece.
    for line in ["disable_canonical_uris", "pass_thru", "status 200"] {
        text.line(line);
    }
    text.close();
    text.open("header");
    text.line("-Docker-Content-Digest");
    text.line("Roadstead-Missing ETag");
    text.close();
}

/// A manifest by its digest. Its type is the folder that has it, be it one of the known ones or any; what lies in the
/// repository under this name, if anything does, is the same.
fn by_digest(text: &mut Text, site: &Site, found: &Answer, name: &str) {
    let digest = format!("{{re.{name}.2}}");
    let path = format!("/v2/{{re.{name}.1}}/manifests/{digest}");
    let any = ["application/*"];
    let folders = MANIFEST_TYPES.iter().chain(&any).map(|known| format!("/content/manifests/{known}/{digest}"));
    text.open("@typed file");
    text.line(&format!("try_files {}", folders.collect::<Vec<_>>().join(" ")));
    text.close();
    text.open("route @typed");
    text.open("map {http.matchers.file.relative} {roadstead_type}");
    text.line("~^/content/manifests/(application/[a-z0-9][a-z0-9!#$&^_.+-]*)/ $1");
    text.line("default application/octet-stream");
    text.close();
    // At once, since the next matcher says something else about a file.
    text.line("header Content-Type {roadstead_type}");
    if site.name_prefix.is_some() {
        // What follows would not know the path any more, if nothing were there.
        simple(text, "simple", &[&format!("file {path}")]);
        text.open("route @simple");
        text.line(&format!("rewrite * {path}"));
        sent(text, site, found, &digest, None);
        text.close();
    }
    text.line(&format!("@found file {path}"));
    text.open("handle @found");
    text.open("route");
    ranges(text, site, found, &digest);
    text.close();
    text.close();
    text.close();
}

/// A form of path: what lies there if anything does.
fn endpoint(text: &mut Text, site: &Site, rule: &Rule) {
    let name = matcher(rule.pattern);
    text.line(&format!("@{name} path_regexp {name} {}", regex(rule.pattern, site)));
    text.open(&format!("handle @{name}"));
    let path = match rule.pattern {
        PathPattern::Catalog => Some("_catalog".to_owned()),
        PathPattern::TagsList => Some(format!("{{re.{name}.name}}/tags/list")),
        PathPattern::Referrers => Some(format!("{{re.{name}.name}}/referrers/{{re.{name}.digest}}")),
        _ => None,
    };
    if let (Some(found), Some(path)) = (&rule.found, path) {
        text.line(&format!("@found file /v2/{path}"));
        text.open("handle @found");
        text.open("route");
        if site.name_prefix.is_some() && rule.pattern != PathPattern::Referrers {
            template::list_below(text, site, rule.pattern, found);
        } else {
            headers(text, site, found, "");
            text.line("request_header -Range");
            send(text);
        }
        text.close();
        text.close();
    }
    text.open("handle");
    fixed(text, site, &rule.missing);
    text.close();
    text.close();
}

/// Sends the file that was found.
fn send(text: &mut Text) {
    text.line("request_header -If-Modified-Since");
    text.line("request_header -If-None-Match");
    text.line("rewrite * {http.matchers.file.relative}");
    text.open("file_server");
    text.line("disable_canonical_uris");
    text.close();
}

/// What can be said of an object that a digest names before it is sent, its type if that isn't said already.
fn fixed_headers(text: &mut Text, site: &Site, found: &Answer, digest: &str, media_type: Option<&str>) {
    text.open("header");
    if let Some(media_type) = media_type {
        text.line(&format!("Content-Type {media_type}"));
    }
    for (name, value) in site.headers(found) {
        match value {
            _ if [ACCEPT_RANGES, CONTENT_TYPE, ETAG].contains(&name) => {}
            Value::Fixed(value) => text.line(&format!("{} {}", site::spelled(&name), quoted(value))),
            Value::FromPath(_) | Value::OfContent(Content::Digest) => {
                text.line(&format!("{} {}", site::spelled(&name), quoted(digest)));
            }
            _ => {}
        }
    }
    text.close();
}

/// An object that a digest names, with conditions and ranges.
fn ranges(text: &mut Text, site: &Site, found: &Answer, digest: &str) {
    let tag = format!("\"{digest}\"");
    let etag = format!("ETag {}", quoted(&tag));
    fixed_headers(text, site, found, digest, None);
    text.line(&format!("@unchanged header If-None-Match {}", quoted(&format!("*{tag}*"))));
    text.open("handle @unchanged");
    text.line(&format!("header {etag}"));
    text.line("respond 304");
    text.close();
    text.open("@ranged header Range *");
    text.close();
    text.open("route @ranged");
    text.line("@several header Range *,*");
    text.line("request_header @several -Range");
    text.line("@unknown not header Range bytes=*");
    text.line("request_header @unknown -Range");
    text.line(&format!("@same header If-Range {}", quoted(&tag)));
    text.line("request_header @same -If-Range");
    text.close();
    // Caddy sets these when the answer begins.
    text.open("header");
    text.line(&etag);
    text.line("-Last-Modified");
    if let Some((_, Value::Fixed(media_type))) = found.headers.iter().find(|(name, _)| *name == CONTENT_TYPE) {
        text.line(&format!("Content-Type {}", quoted(media_type)));
    }
    text.line("defer");
    text.close();
    send(text);
}

/// The pages for people.
fn pages(text: &mut Text, site: &Site) {
    let rule = PathPattern::Page.rule();
    let Some(found) = &rule.found else { return };
    text.open("@roadstead_page");
    text.line(&format!("path_regexp {}", quoted(&PathPattern::Page.regex(None))));
    text.line("not path_regexp ^/content/");
    text.close();
    text.open("handle @roadstead_page");
    for (name, file, ending) in
        [("folder", "{path}index.html", "path_regexp /$"), ("file", "{path}", "not path_regexp /$")]
    {
        text.open(&format!("@{name}"));
        text.line(ending);
        text.line(&format!("file {file}"));
        text.close();
        text.open(&format!("handle @{name}"));
        text.open("route");
        text.open("map {path} {roadstead_type}");
        for (extension, media_type) in PAGE_TYPES {
            text.line(&format!("~[.]{extension}$ {}", quoted(media_type)));
        }
        text.line("default `text/html; charset=utf-8`");
        text.close();
        headers(text, site, found, "{roadstead_type}");
        text.line("request_header -Range");
        send(text);
        text.close();
        text.close();
    }
    text.open("handle");
    fixed(text, site, &rule.missing);
    text.close();
    text.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_checked() {
        for place in ["", "/a\nb", "/a`b", "/a{b}", "/a*", "/a[b", "/a\\b"] {
            assert!(root(place).is_err(), "{place:?}");
        }
        assert_eq!(root("/srv/a \"b\" $c/").unwrap(), "/srv/a \"b\" $c");
        for good in ["80", "127.0.0.1:80", "[::1]:5000", "unix:/run/roadstead.sock"] {
            assert!(listen(good).is_ok(), "{good:?} was refused");
        }
        for bad in ["", "0", "80 {", "unix:s", "unix:/a b", "host:80", "+80", "::1"] {
            assert!(listen(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn no_text_of_the_rules_ends_a_quotation() {
        for rule in RULES.iter() {
            for answer in rule.found.iter().chain([&rule.missing]) {
                if let Body::Fixed(body) = &answer.body {
                    assert!(!body.contains('`'), "{body}");
                }
            }
        }
    }
}
