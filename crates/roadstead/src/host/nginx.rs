//! nginx: one fixed configuration, whatever the tree holds, never reloaded when images come and go.
//!
//! A reference is a symbolic link whose target spells media type and digest, and `$realpath_root` says where a link
//! leads. One map reads it, once for each request; type, digest and body all follow from that one answer, so they can't
//! disagree while a tag moves. A digest never moves, so that its folder is looked for among the known types instead, by
//! `try_files`: a third faster, since nginx remembers open files. What is in none of them is found as a tag is.
//!
//! Traps that the text avoids:
//!
//! - reading `$realpath_root` of what isn't there is logged as critical, so `-f` looks first;
//! - nginx asks a variable that can change twice where it builds a string, once for its length; a map asks once;
//! - `open_file_cache` on a path with a tag would answer an old body with a new digest, so it stands behind digests only;
//! - an extension must not decide a tag's type: `types {}` is empty, and the type is a header like any other;
//! - `add_header` is inherited only by locations that have none, so each has all;
//! - the date of a file says nothing about a tag that moves between files, so `Last-Modified` is left out. `ETag` is the
//!   digest; nginx compares it in `If-Range`, and the map `$roadstead_unchanged` in `If-None-Match`.

use std::net::SocketAddr;

use http::header::ACCEPT_RANGES;

use super::plain;
use super::text::Text;
use super::{ConfigFile, Group, Host, MANIFEST_TYPES, Unsupported};
use crate::site::{
    self, Answer, Body, Capture, Content, Form, METHOD_NOT_ALLOWED, PAGE_TYPES, PREFLIGHT, PathPattern, RULES, Rule,
    Site, Value,
};

/// nginx.
pub(super) struct Nginx;

const NAME: &str = "nginx";

impl Host for Nginx {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Server
    }

    fn summary(&self) -> &'static str {
        "one fixed configuration, never reloaded for images; a site, a snippet, or all by itself"
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        plain::refuse_for(NAME, site)?;
        if site.form == Form::Edge {
            return Err(Unsupported::Form { host: NAME, form: site.form });
        }
        if site.root_is_literal && site.root.contains('$') {
            let problem = "a $ begins a variable, and can't be written otherwise: give the folder another name, or a link that has \
                           one, and name that";
            return Err(refused("the tree's place", &site.root, problem));
        }
        let root = root(&site.root)?;
        let mut maps = Text::default();
        http_part(&mut maps);
        let mut paths = Text::default();
        locations(&mut paths, site, &root);
        let file = |name: &str, place: &str, text: Text| ConfigFile {
            name: name.to_owned(),
            place: place.to_owned(),
            text: text.finish().into(),
        };
        if site.form == Form::Snippet {
            return Ok(vec![
                file("roadstead-server.conf", "include it inside the server {} that is to answer", paths),
                file("roadstead-http.conf", "include it inside http {}, outside every server {}", maps),
            ]);
        }
        let mut text = maps;
        text.line("");
        text.open("server");
        text.line(&format!("listen {};", listen(&site.listen)?));
        text.line("server_tokens off;");
        text.line("merge_slashes off;");
        text.line("keepalive_requests 100000;");
        text.line("");
        text.nest(&paths);
        text.line("");
        pages(&mut text, site, &root);
        text.close();
        if site.form == Form::Site {
            return Ok(vec![file("roadstead.conf", "put it into /etc/nginx/conf.d/, then nginx -s reload", text)]);
        }
        let place = "run it with nginx -p FOLDER -c FILE -g 'daemon off;', where FOLDER takes nginx's own files";
        Ok(vec![file("nginx.conf", place, standalone(&text))])
    }
}

/// A text that stands for itself, quoted. In none of the rules' texts is there a `$`.
fn quoted(text: &str) -> String {
    let quote = if text.contains('"') { '\'' } else { '"' };
    let mut quoted = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\\' => quoted.push_str("\\\\"),
            c if c == quote => {
                quoted.push('\\');
                quoted.push(c);
            }
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

fn refused(what: &'static str, value: &str, problem: &'static str) -> Unsupported {
    Unsupported::Value { host: NAME, what, value: value.to_owned(), problem }
}

/// The place of the tree, ready to stand between double quotes. `$name` and `${name}` are nginx's variables.
fn root(given: &str) -> Result<String, Unsupported> {
    const WHAT: &str = "the tree's place";
    let trimmed = given.trim_end_matches('/');
    if given.is_empty() {
        return Err(refused(WHAT, given, "it is empty"));
    }
    if given.chars().any(char::is_control) {
        return Err(refused(WHAT, given, "it has a control character"));
    }
    let mut rest = trimmed;
    while let Some((_, behind)) = rest.split_once('$') {
        let word = |text: &str| text.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
        let name = match behind.strip_prefix('{') {
            Some(inner) => Some(&inner[..word(inner)]).filter(|name| inner[name.len()..].starts_with('}')),
            None => Some(&behind[..word(behind)]),
        };
        match name {
            Some("document_root" | "realpath_root" | "request_filename") => {
                return Err(refused(WHAT, given, "that variable depends on the place itself"));
            }
            Some(name) if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {}
            _ => {
                return Err(refused(
                    WHAT,
                    given,
                    "a $ must begin the name of a variable: nginx can't write one otherwise",
                ));
            }
        }
        rest = behind;
    }
    Ok(trimmed.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Where to listen, checked: a port, an address and a port, or a socket in the file system.
fn listen(given: &str) -> Result<String, Unsupported> {
    const WHAT: &str = "the address to listen on";
    let port = |port: &str| !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port > 0);
    let plain = given.parse::<SocketAddr>().is_ok_and(|address| address.port() > 0)
        || port(given)
        || given.strip_prefix("*:").is_some_and(port)
        || given.rsplit_once(':').is_some_and(|(host, number)| is_host_name(host) && port(number));
    if plain {
        return Ok(given.to_owned());
    }
    match given.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') && !path.contains(['$', ':']) && !path.chars().any(char::is_control) => {
            Ok(quoted(given))
        }
        _ => Err(refused(WHAT, given, "expected PORT, ADDRESS:PORT, [ADDRESS]:PORT or unix:/PATH")),
    }
}

fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && !label.starts_with('-') && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

/// What must stand outside every server: how a link's target becomes two headers.
fn http_part(text: &mut Text) {
    let digest = "sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}";
    let media_type = "application/[a-z0-9][a-z0-9!#$&^_.+-]*";
    text.line(
        "# A registry of plain files. Made by roadstead; the same for every tree, so it is never reloaded for images.",
    );
    text.line("");
    text.line("# A name is a link whose target spells media type and digest. One map gives both, since it reads the link once:");
    text.line(
        "# with two, or with `set`, which asks twice for what can change, they could disagree while a tag moves.",
    );
    text.open("map $realpath_root $roadstead_real");
    text.line("default nowhere;");
    let spelled = format!("(?<roadstead_type>{media_type})/(?<roadstead_digest>{digest})");
    text.line(&format!("\"~/content/manifests/{spelled}$\" $roadstead_type/$roadstead_digest;"));
    text.close();
    text.line("# A digest's type is the folder in which it was found.");
    text.open("map $uri $roadstead_known");
    text.line(&format!("\"~^/content/manifests/(?<roadstead_folder>{media_type})/\" $roadstead_folder;"));
    text.close();
    text.line("# Whether the client has what it asks for.");
    text.open("map \"$roadstead_digest $http_if_none_match\" $roadstead_unchanged");
    text.line("default 0;");
    text.line("\"~^(?<roadstead_u>sha\\S+) (?:.*[ ,/])?\\\"\\k<roadstead_u>\\\"\" 1;");
    text.close();
    text.open("map $request_method $roadstead_refused");
    text.line("default 1;");
    text.line("GET 0;");
    text.line("HEAD 0;");
    text.close();
}

/// A component of a name, as the expressions have it, and so that none of its characters is given back: it ends where no such
/// character follows, so what follows can't match any earlier. Without `pcre_jit`, which belongs outside of a site, that is a
/// third of what an answer costs.
const COMPONENT: [&str; 2] = ["[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*", "[a-z0-9]++(?:(?:[._]|__|-++)[a-z0-9]++)*+"];

/// The expression for a pattern, with captures that collide with nobody's variables.
fn regex(pattern: PathPattern, site: &Site) -> String {
    let [component, possessive] = COMPONENT;
    pattern.regex(site.name_prefix.as_ref()).replace(component, possessive).replace("(?<", "(?<roadstead_")
}

/// Where the object of a pattern lies, seen from the root.
fn key(pattern: PathPattern) -> Option<&'static str> {
    Some(match pattern {
        PathPattern::Catalog => "v2/_catalog",
        PathPattern::TagsList => "v2/$roadstead_name/tags/list",
        PathPattern::ManifestByTag => "v2/$roadstead_name/manifests/$roadstead_tag",
        PathPattern::ManifestByDigest => "v2/$roadstead_name/manifests/$roadstead_asked",
        PathPattern::Blob => "v2/$roadstead_name/blobs/$roadstead_asked",
        PathPattern::Referrers => "v2/$roadstead_name/referrers/$roadstead_asked",
        _ => return None,
    })
}

fn value(value: Value) -> Option<String> {
    Some(match value {
        Value::Fixed(text) => quoted(text),
        Value::FromPath(Capture::Digest) => "$roadstead_asked".to_owned(),
        Value::OfContent(Content::Digest) => "$roadstead_digest".to_owned(),
        Value::OfContent(Content::MediaType) => "$roadstead_type".to_owned(),
        Value::OfPage => return None,
    })
}

/// The headers of an answer.
fn headers(text: &mut Text, site: &Site, answer: &Answer) {
    for (name, source) in site.headers(answer) {
        // nginx says by itself that it serves ranges, wherever it may.
        if name == ACCEPT_RANGES {
            continue;
        }
        let Some(value) = value(source) else { continue };
        let value = if name == http::header::ETAG { format!("'\"{value}\"'") } else { value };
        text.line(&format!("add_header {} {value} always;", site::spelled(&name)));
    }
    if answer.body == Body::Object {
        text.line("add_header Last-Modified \"\";");
        let ranges = u8::from(answer.headers.iter().any(|(name, _)| *name == ACCEPT_RANGES));
        text.line(&format!("max_ranges {ranges};"));
    }
}

/// Answers by itself.
fn fixed(text: &mut Text, site: &Site, answer: &Answer) {
    headers(text, site, answer);
    if let Body::Fixed(body) = &answer.body {
        text.line(&format!("return {} {};", answer.status.as_u16(), quoted(body)));
    }
}

/// Keeps what stands around a location from adding to its answers.
fn plain(text: &mut Text) {
    for line in ["types {}", "default_type \"\";", "charset off;", "gzip off;", "expires off;", "server_tokens off;"] {
        text.line(line);
    }
}

const REFUSE: &str = "if ($roadstead_refused) { return 405; }";

/// Where nginx goes for an answer of another status than the one that it was about to give.
fn errors(text: &mut Text, missing: Option<PathPattern>) {
    text.line("error_page 405 = @roadstead_method;");
    if let Some(pattern) = missing {
        text.line("error_page 416 @roadstead_range;");
        // A missing list may be as good as an empty one: then the answer's own status counts.
        text.line(&format!("error_page 404 = {};", missing_name(pattern)));
    }
}

fn missing_name(pattern: PathPattern) -> &'static str {
    match pattern {
        PathPattern::Catalog => "@roadstead_no_catalog",
        PathPattern::TagsList => "@roadstead_no_repository",
        PathPattern::Blob => "@roadstead_no_blob",
        PathPattern::Referrers => "@roadstead_no_referrers",
        PathPattern::Page => "@roadstead_no_page",
        _ => "@roadstead_no_manifest",
    }
}

/// Everything under `/v2/`, and where its errors lead.
fn locations(text: &mut Text, site: &Site, root: &str) {
    let ping = PathPattern::Ping.rule();
    for path in ["/v2", "/v2/"] {
        text.open(&format!("location = {path}"));
        plain(text);
        errors(text, None);
        text.line(REFUSE);
        fixed(text, site, &ping.missing);
        text.close();
    }
    // `^~` keeps a server's own expressions, for `.html` or `.php`, away from tags.
    text.open("location ^~ /v2/");
    plain(text);
    for line in [
        "etag off;",
        "if_modified_since off;",
        "log_not_found off;",
        "disable_symlinks off;",
        "client_max_body_size 0;",
        "sendfile on;",
        "sendfile_max_chunk 2m;",
        "tcp_nopush on;",
        "tcp_nodelay on;",
    ] {
        text.line(line);
    }
    errors(text, None);
    text.line(REFUSE);
    fixed(text, site, &PathPattern::Unknown.rule().missing);
    // What is asked most comes first; no path is of two forms that have an object.
    let (first, others): (Vec<_>, Vec<_>) =
        RULES.iter().partition(|rule| rule.pattern == PathPattern::ManifestByDigest);
    for rule in first.into_iter().chain(others) {
        match rule.pattern {
            PathPattern::Ping | PathPattern::Unknown | PathPattern::Page | PathPattern::Outside => {}
            PathPattern::ManifestByTag => by_tag(text, site, root, rule),
            PathPattern::ManifestByDigest => by_digest(text, site, root, rule),
            _ => endpoint(text, site, root, rule),
        }
    }
    text.close();
    text.line("");
    let mut named = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.found.is_some() && rule.pattern != PathPattern::Page) {
        let name = missing_name(rule.pattern);
        if !named.contains(&name) {
            named.push(name);
            named_location(text, site, name, &rule.missing);
        }
    }
    by_link(text, root);
    text.open("location @roadstead_method");
    plain(text);
    if site.cors {
        text.open("if ($request_method = OPTIONS)");
        headers(text, site, &PREFLIGHT);
        text.line(&format!("return {};", PREFLIGHT.status.as_u16()));
        text.close();
    }
    fixed(text, site, &METHOD_NOT_ALLOWED);
    text.close();
    // The headers of the object have been added by then.
    text.open("location @roadstead_range");
    plain(text);
    text.line(&format!("return 416 {};", quoted(site::BEHIND_THE_END)));
    text.close();
}

fn named_location(text: &mut Text, site: &Site, name: &str, answer: &Answer) {
    text.open(&format!("location {name}"));
    plain(text);
    fixed(text, site, answer);
    text.close();
}

/// A path with an object of its own, or with none.
fn endpoint(text: &mut Text, site: &Site, root: &str, rule: &Rule) {
    // The captures of a digest are called by what they are: asked for, as against found.
    let regex = regex(rule.pattern, site).replace("roadstead_digest", "roadstead_asked");
    text.line("");
    text.open(&format!("location ~ \"{regex}\""));
    let (Some(found), Some(key)) = (&rule.found, key(rule.pattern)) else {
        errors(text, None);
        text.line(REFUSE);
        fixed(text, site, &rule.missing);
        text.close();
        return;
    };
    errors(text, Some(rule.pattern));
    text.line(REFUSE);
    if found.headers.iter().any(|(name, _)| *name == http::header::ETAG) {
        text.line("set $roadstead_digest $roadstead_asked;");
        text.line("if ($roadstead_unchanged) { return 304; }");
    }
    text.line(&format!("alias \"{root}/{key}\";"));
    headers(text, site, found);
    if let Some(prefix) = &site.name_prefix {
        lists_below(text, rule.pattern, prefix.as_str());
    }
    text.close();
    outside_prefix(text, site, rule);
}

/// The lists say the tree's own names: nginx puts the prefix in front of each while it sends them.
fn lists_below(text: &mut Text, pattern: PathPattern, prefix: &str) {
    let substitutions: &[(&str, &str)] = match pattern {
        PathPattern::TagsList => &[(r#""name":""#, "on")],
        PathPattern::Catalog => &[(r#"[""#, "off"), (r#"",""#, "off")],
        _ => return,
    };
    for (before, _) in substitutions {
        text.line(&format!("sub_filter '{before}' '{before}{prefix}/';"));
    }
    text.line("sub_filter_types *;");
    text.line(&format!("sub_filter_once {};", substitutions[0].1));
}

/// What lacks the prefix is missing, in the way that fits the path.
fn outside_prefix(text: &mut Text, site: &Site, rule: &Rule) {
    if site.name_prefix.is_none() || rule.pattern == PathPattern::Catalog {
        return;
    }
    text.line("");
    text.open(&format!("location ~ \"{}\"", rule.pattern.regex(None).replace("?<", "?<roadstead_other_")));
    errors(text, None);
    text.line(REFUSE);
    fixed(text, site, &rule.missing);
    text.close();
}

/// A tag: the link is read, then what it leads to is served.
fn by_tag(text: &mut Text, site: &Site, root: &str, rule: &Rule) {
    let (Some(found), Some(key)) = (&rule.found, key(rule.pattern)) else { return };
    text.line("");
    text.open(&format!("location ~ \"{}\"", regex(rule.pattern, site)));
    errors(text, Some(rule.pattern));
    text.line(REFUSE);
    read_link(text, root, key, "/v2/.tag/");
    text.close();
    linked(text, site, root, rule, found, "/v2/.tag/");
    outside_prefix(text, site, rule);
}

/// A digest: its folder among those of the known types is the type.
fn by_digest(text: &mut Text, site: &Site, root: &str, rule: &Rule) {
    let (Some(found), Some(key)) = (&rule.found, key(rule.pattern)) else { return };
    let regex = regex(rule.pattern, site).replace("roadstead_digest", "roadstead_asked");
    text.line("");
    text.open(&format!("location ~ \"{regex}\""));
    errors(text, Some(rule.pattern));
    text.line(REFUSE);
    text.line("open_file_cache max=4096 inactive=60s;");
    // What is removed is seen for as long as this; what isn't there is not remembered.
    text.line("open_file_cache_valid 1s;");
    text.line(&format!("if (!-f \"{root}/{key}\") {{ return 404; }}"));
    text.line("set $roadstead_digest $roadstead_asked;");
    text.line("if ($roadstead_unchanged) { return 304; }");
    text.line(&format!("root \"{root}/\";"));
    let known = MANIFEST_TYPES.map(|known| format!("/content/manifests/{known}/$roadstead_asked"));
    text.line(&format!("try_files {} @roadstead_by_link;", known.join(" ")));
    text.line("sendfile off;");
    let mut said = Text::default();
    headers(&mut said, site, found);
    for line in said.finish().replace("$roadstead_type", "$roadstead_known").lines() {
        text.line(line);
    }
    text.close();
    linked(text, site, root, rule, found, "/v2/.digest/");
    outside_prefix(text, site, rule);
}

/// Where nginx goes with a digest whose manifest has an unknown type. (In `locations`, since it has a name.)
fn by_link(text: &mut Text, root: &str) {
    let Some(key) = key(PathPattern::ManifestByDigest) else { return };
    text.open("location @roadstead_by_link");
    errors(text, Some(PathPattern::ManifestByDigest));
    read_link(text, root, key, "/v2/.digest/");
    text.close();
}

fn read_link(text: &mut Text, root: &str, key: &str, inner: &str) {
    text.line(&format!("root \"{root}/{key}\";"));
    text.line("if (!-f $document_root) { return 404; }");
    text.line(&format!("rewrite ^ {inner}$roadstead_real last;"));
}

/// What a link leads to.
fn linked(text: &mut Text, site: &Site, root: &str, rule: &Rule, found: &Answer, inner: &str) {
    text.open(&format!("location ^~ {inner}"));
    text.line("internal;");
    errors(text, Some(rule.pattern));
    text.line("if ($roadstead_unchanged) { return 304; }");
    text.line(&format!("alias \"{root}/content/manifests/\";"));
    text.line("open_file_cache max=4096 inactive=60s;");
    text.line("sendfile off;");
    headers(text, site, found);
    text.close();
}

/// What lies outside of `/v2/`: the pages for people, and nothing else.
fn pages(text: &mut Text, site: &Site, root: &str) {
    let (page, outside) = (PathPattern::Page.rule(), PathPattern::Outside.rule());
    let Some(found) = &page.found else { return };
    named_location(text, site, missing_name(PathPattern::Page), &page.missing);
    // What can't be read has no path with which it could go to a location without one.
    text.line("error_page 400 /.roadstead-bad-request;");
    text.open("location = /.roadstead-bad-request");
    text.line("internal;");
    plain(text);
    fixed(text, site, &site::BAD_REQUEST);
    text.close();
    text.open(&format!("location ~ \"{}\"", PathPattern::Page.regex(None)));
    text.line(&format!("root \"{root}/\";"));
    text.open("types");
    for (extension, media_type) in PAGE_TYPES {
        text.line(&format!("{} {extension};", quoted(media_type)));
    }
    text.close();
    for line in
        ["charset off;", "gzip off;", "expires off;", "etag off;", "if_modified_since off;", "log_not_found off;"]
    {
        text.line(line);
    }
    errors(text, Some(PathPattern::Page));
    text.line(REFUSE);
    text.line("try_files $uri ${uri}index.html =404;");
    headers(text, site, found);
    text.close();
    for location in ["location ^~ /content/", "location /"] {
        text.open(location);
        plain(text);
        errors(text, None);
        text.line(REFUSE);
        fixed(text, site, &outside.missing);
        text.close();
    }
}

/// Everything that nginx needs to run as an ordinary user, its own files below the folder of `-p`.
fn standalone(server: &Text) -> Text {
    let mut text = Text::default();
    for line in ["worker_processes auto;", "pid nginx.pid;", "error_log stderr warn;", "pcre_jit on;", ""] {
        text.line(line);
    }
    text.open("events");
    text.line("worker_connections 1024;");
    text.close();
    text.line("");
    text.open("http");
    text.line("access_log off;");
    for folder in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        text.line(&format!("{folder}_temp_path {folder}_temp;"));
    }
    text.line("");
    text.nest(server);
    text.close();
    text
}

#[cfg(test)]
mod tests;
