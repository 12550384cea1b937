//! Apache httpd where only `.htaccess` files can be written, as with most shared hosting: no module of one's own, no Lua.
//!
//! One `.htaccess` lies in `v2/`, so that nothing else in the web space is touched, and a site around it doesn't touch this.
//! What a path is answered with becomes variables (`SetEnvIf`, whose later lines overrule earlier ones), and at the end
//! each header is its variable's value: few lines, whatever the tree holds, since Apache reads them for every request.
//!
//! Unlike other hosts of plain files this one tells by the status whether something is there, so what is named by a digest is
//! immutable, and what is missing has its own headers and texts.
//!
//! Traps that the text avoids:
//!
//! - A tag such as `1.php` would be run, and anybody who pushes an image chooses what is in it. So no handler is found by an
//!   extension; `<If>` is what comes after all sections of the server, in which such handlers are set. And in case the
//!   `.htaccess` isn't obeyed, no file has such a name: the tag is rewritten to the digest.
//! - `mod_negotiation` would answer `1` with `1.0`.
//! - Apache keeps two lists of headers. One that the server sets in the other list would be sent beside ours.
//! - A file that a rewrite leads to has its own path, and so its own variables.

use std::fmt::Write as _;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};

use super::plain::{self, Header, Paths};
use super::{ConfigFile, Group, Host, Unsupported};
use crate::oci::{ErrorCode, Reference};
use crate::site::{
    self, Body, CORS, EMPTY_INDEX, Elsewhere, Form, Named, PREFLIGHT, PathPattern, Piece, RULES, Site, Value,
};
use crate::tree::FOR_EVER;

/// Apache by `.htaccess` alone.
pub(super) struct Htaccess;

const NAME: &str = "apache-htaccess";

/// What is sent for a subject without referrers. No repository has such a name.
const NO_REFERRERS: &str = "_no-referrers";

impl Host for Htaccess {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Site
    }

    fn summary(&self) -> &'static str {
        "shared hosting with Apache 2.4: plain files and one `.htaccess`"
    }

    fn public(&self) -> Option<&'static str> {
        Some("public")
    }

    fn serves_as_page(&self, _form: Form, reference: &Reference) -> bool {
        is_program(reference)
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        plain::begin(self, site)?;
        let text = [FIRST.to_owned(), rewrites(site), variables(site), headers(site), errors()].concat();
        Ok(vec![
            ConfigFile {
                name: "public/v2/.htaccess".to_owned(),
                place: "in the folder `v2`, which belongs at the top of the web space".to_owned(),
                text: text.into(),
            },
            ConfigFile {
                name: format!("public/v2/{NO_REFERRERS}"),
                place: "an empty list of referrers, in the same folder".to_owned(),
                text: EMPTY_INDEX.into(),
            },
        ])
    }
}

/// Endings by which servers are usually told to run a file, in any place of a name.
fn is_program(reference: &Reference) -> bool {
    const PROGRAMS: [&str; 14] =
        ["php", "phtml", "phar", "pht", "cgi", "fcgi", "pl", "py", "rb", "lua", "shtml", "shtm", "stm", "asp"];
    let Reference::Tag(tag) = reference else { return false };
    let mut endings = tag.as_str().split('.').skip(1).map(str::to_ascii_lowercase);
    // `php8` and the like are there, too.
    endings.any(|ending| PROGRAMS.iter().any(|program| ending.starts_with(program)))
}

const FIRST: &str = r#"# A registry of plain files. Made by roadstead.
# Needs Apache 2.4.13 or newer with mod_headers, mod_rewrite, mod_setenvif, mod_mime and mod_dir; and AllowOverride All, or
# FileInfo Indexes Options=Indexes,MultiViews,Includes,ExecCGI,SymLinksIfOwnerMatch.
Options -MultiViews -Indexes -Includes -ExecCGI +SymLinksIfOwnerMatch
DirectoryIndex index.html
<If "true">
    SetHandler default-handler
    ForceType application/octet-stream
</If>
AddDefaultCharset Off
RemoveEncoding .gz .tgz .Z .bz2 .tbz .xz .txz .zst .br .lz4
RemoveOutputFilter .shtml .shtm .stm .html .htm .js .css .xml .txt
<IfModule mod_expires.c>
    ExpiresActive Off
</IfModule>
"#;

/// What a browser asks before it sends what a page of another origin wants to.
const PREFLIGHT_RULE: &str = "RewriteCond %{REQUEST_METHOD} =OPTIONS\nRewriteRule ^ - [R=204,L]\n";

fn rewrites(site: &Site) -> String {
    let mut text = r#"
RewriteEngine On
PREFLIGHTRewriteCond %{REQUEST_METHOD} !^(GET|HEAD)$
RewriteRule ^ - [R=405,L]
RewriteRule (^|/)\. - [R=404,L]
RewriteRule ^index\.html$ - [R=404,NS,L]
"#
    .replace("PREFLIGHT", if site.cors { PREFLIGHT_RULE } else { "" });
    let digest = "(sha256|sha512):([0-9a-f]+)";
    let mut elsewhere = |from: String, place: &Elsewhere, reference: &str| {
        // A percent sign would stand for something that a condition has matched.
        let to = place.written(|piece| match piece {
            Piece::Text(text) => text.replace('%', r"\%"),
            Piece::Name => "$1".to_owned(),
            Piece::Reference => reference.to_owned(),
            Piece::Algorithm => "$2".to_owned(),
            Piece::Hex => "$3".to_owned(),
        });
        let _ = writeln!(text, "RewriteRule \"{from}\" \"{to}\" [R=307,NE,L]");
    };
    if let Some(place) = &site.blobs_at {
        elsewhere(format!("^(.+)/blobs/{digest}$"), place, "$2:$3");
    }
    if let Some(place) = &site.manifests_at {
        elsewhere("^(.+)/manifests/([^/]+)$".to_owned(), place, "$2");
    }
    for (repository, Named { reference, digest, .. }) in site.survey.names() {
        if site.manifests_at.is_none() && is_program(reference) {
            let name = plain::full_name(site, repository);
            let path = format!("{name}/manifests/{reference}").replace('.', r"\.");
            let _ = writeln!(text, "RewriteRule \"^{path}$\" \"/v2/{name}/manifests/{digest}\" [END]");
        }
    }
    let [no_subject, subject] = [PathPattern::NotASubject, PathPattern::Referrers].map(|of| of.regex(None));
    let _ = write!(
        text,
        r#"RewriteCond %{{REQUEST_URI}} "{no_subject}"
RewriteCond %{{REQUEST_URI}} "!{subject}"
RewriteRule ^ - [R={},L]
RewriteCond %{{REQUEST_FILENAME}} !-f
RewriteCond %{{REQUEST_URI}} "{subject}"
RewriteRule ^ /v2/{NO_REFERRERS} [END]
RewriteCond %{{REQUEST_FILENAME}} -d
RewriteRule . - [R=404,L]
"#,
        PathPattern::NotASubject.rule().missing.status.as_u16()
    );
    text
}

/// A header's variable.
fn variable(name: &str) -> String {
    format!("roadstead_{}", name.to_ascii_lowercase().replace('-', "_"))
}

/// What each path is answered with, by the name of the header; and what is said where nothing lies.
fn variables(site: &Site) -> String {
    let mut text = "\nSetEnvIf Request_URI ^ no-gzip=1 no-brotli=1\n".to_owned();
    let mut rules = plain::header_rules(site);
    for rule in &mut rules.general {
        // What is said of every answer needs no variable.
        rule.headers.retain(|(name, _)| !CORS.iter().any(|(cors, _)| cors == name));
        if matches!(rule.paths, Paths::Blobs(_) | Paths::Digests(_)) {
            rule.headers.retain(|(name, _)| *name != CACHE_CONTROL);
            rule.headers.push((CACHE_CONTROL, Header::Text(FOR_EVER.to_owned())));
        }
    }
    let referrers = rules.general.iter().find(|rule| rule.paths == Paths::Referrers).map(|rule| rule.headers.clone());
    let mut said = plain::expressions(rules);
    said.extend(referrers.map(|headers| (format!("^/v2/{NO_REFERRERS}$"), headers)));
    for (expression, headers) in said {
        let _ = write!(text, "SetEnvIf Request_URI \"{expression}\"");
        for (name, value) in headers {
            let value = match value {
                // In a value `$1` is what the expression has captured.
                Header::Text(value) => value.replace('$', r"\$"),
                Header::Digest(algorithm) => format!("{algorithm}:$1"),
            };
            let _ = write!(text, " \"{}={value}\"", variable(name.as_str()));
        }
        text.push('\n');
    }
    // The most general first: here the last one counts.
    for rule in RULES.iter().rev() {
        let below = !matches!(rule.pattern, PathPattern::Page | PathPattern::Outside);
        if let (true, Body::Fixed(body)) = (below && rule.missing.status.is_client_error(), &rule.missing.body) {
            let (expression, body) = (rule.pattern.regex(None), body.replace('"', r#"\""#));
            let _ = writeln!(text, "SetEnvIf Request_URI \"{expression}\" \"roadstead_missing={body}\"");
        }
    }
    text
}

/// Apache would send several ranges at once in a form that no client of a registry expects, and a tag may move to what is older.
const ONLY_ONE: &str = r#"
RequestHeader unset Range "expr=%{HTTP:Range} =~ /,/"
RequestHeader unset If-Modified-Since
Header onsuccess unset Last-Modified
"#;

/// The headers of what is there.
fn headers(site: &Site) -> String {
    let mut text = ONLY_ONE.to_owned();
    for (name, value) in plain::cors(site) {
        let _ = writeln!(text, "Header always set {} \"{value}\"", site::spelled(&name));
    }
    for (name, value) in PREFLIGHT.headers.iter().filter(|_| site.cors) {
        if let Value::Fixed(value) = value {
            let name = site::spelled(name);
            let _ = writeln!(text, "Header always set {name} \"{value}\" \"expr=%{{REQUEST_METHOD}} == 'OPTIONS'\"");
        }
    }
    let found = PathPattern::Blob.rule().found.iter().flat_map(|found| &found.headers).map(|(name, _)| name);
    for name in found.filter(|name| ![http::header::ETAG, http::header::ACCEPT_RANGES].contains(name)) {
        let (spelled, variable) = (site::spelled(name), variable(name.as_str()));
        if *name != CONTENT_TYPE {
            let _ = writeln!(text, "Header onsuccess unset {spelled}");
        }
        let _ = writeln!(
            text,
            "Header always set {spelled} \"expr=%{{reqenv:{variable}}}\" \"expr=-n reqenv('{variable}') && \
             %{{REQUEST_STATUS}} in {{'200','206','304','416'}}\""
        );
    }
    text
}

/// Headers and texts of errors.
fn errors() -> String {
    let mut text = "\n".to_owned();
    for (name, value) in &site::METHOD_NOT_ALLOWED.headers {
        if let Value::Fixed(value) = value {
            let statuses = if *name == ALLOW { "'405'" } else { "'400','404','405'" };
            let name = site::spelled(name);
            let _ =
                writeln!(text, "Header always set {name} \"{value}\" \"expr=%{{REQUEST_STATUS}} in {{{statuses}}}\"");
        }
    }
    let unsupported = ErrorCode::Unsupported.body().replace('"', r#"\""#);
    let _ = write!(
        text,
        "ErrorDocument 400 \"%{{reqenv:roadstead_missing}}\"\nErrorDocument 404 \"%{{reqenv:roadstead_missing}}\"\n\
         ErrorDocument 405 \"{unsupported}\"\nErrorDocument 416 \"{}\"\n",
        site::BEHIND_THE_END.trim_end()
    );
    text
}
