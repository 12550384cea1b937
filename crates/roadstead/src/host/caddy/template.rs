//! What only a template can say: what a tag leads to, and lists under a prefix.

use http::header::ACCEPT_RANGES;

use crate::host::text::Text;
use crate::site::{self, Answer, PathPattern, Site, Value};

use super::quoted;

/// A manifest by what it holds: read once, hashed, and found again among the types.
pub(super) fn manifest(text: &mut Text, site: &Site, found: &Answer) {
    template_headers(text, site, found);
    // Templates remove it from what they make, since they don't know what that depends on. We do.
    text.open("header");
    text.line("ETag {http.response.header.Roadstead-Tag}");
    text.line("-Roadstead-Tag");
    text.line("defer");
    text.close();
    template_with(text, MANIFEST);
}

/// What a template doesn't set by itself.
fn template_headers(text: &mut Text, site: &Site, found: &Answer) {
    text.open("header");
    for (name, value) in site.headers(found) {
        if let Value::Fixed(value) = value
            && name != ACCEPT_RANGES
        {
            text.line(&format!("{} {}", site::spelled(&name), quoted(value)));
        }
    }
    text.close();
}

fn template_with(text: &mut Text, template: &str) {
    text.line("header Content-Type application/x-roadstead");
    text.open("templates");
    text.line("mime application/x-roadstead");
    text.line("between `~\"<` `>\"~`");
    text.close();
    // What stands around an action is trimmed, so that the lines may be indented as `caddy fmt` wants them.
    for line in format!("respond {}", quoted(template)).lines() {
        text.line(line);
    }
}

/// `sha512sum` is no function of Caddy 2.6: the type of what has such a digest is what it says, if that is a type that
/// the tree knows, and its digest stays unsaid. So does that of a signed manifest of schema 1, which is one of what was signed.
const MANIFEST: &str = r#"~"<- $text := include (placeholder "http.matchers.file.relative") ->"~
~"<- $digest := printf "sha256:%s" (sha256sum $text) ->"~
~"<- $types := listFiles "/content/manifests/application" ->"~
~"<- $type := "" ->"~
~"<- range $types ->"~
~"<- if fileExists (printf "/content/manifests/application/%s/%s" . $digest) ->"~
~"<- $type = . ->"~
~"<- end ->"~
~"<- end ->"~
~"<- if $type ->"~
~"<- .RespHeader.Set "Docker-Content-Digest" $digest ->"~
~"<- else ->"~
~"<- $says := fromJson $text ->"~
~"<- $type = trimPrefix "application/" (toString (get $says "mediaType")) ->"~
~"<- if hasKey $says "fsLayers" ->"~
~"<- $type = printf "vnd.docker.distribution.manifest.v1+%s" (ternary "prettyjws" "json" (hasKey $says "signatures")) ->"~
~"<- else if not (has $type $types) ->"~
~"<- $type = ternary "vnd.oci.image.index.v1+json" "vnd.oci.image.manifest.v1+json" (hasKey $says "manifests") ->"~
~"<- end ->"~
~"<- end ->"~
~"<- .RespHeader.Set "Content-Type" (printf "application/%s" $type) ->"~
~"<- $tag := printf "%q" $digest ->"~
~"<- if contains $tag (.Req.Header.Get "If-None-Match") ->"~
~"<- .RespHeader.Set "ETag" $tag ->"~
~"<- httpError 304 ->"~
~"<- end ->"~
~"<- .RespHeader.Set "Roadstead-Tag" $tag ->"~
~"<- $text ->"~"#;

/// The lists say the tree's own names: a template puts the prefix in front of each.
pub(super) fn list_below(text: &mut Text, site: &Site, pattern: PathPattern, found: &Answer) {
    let prefix = site.name_prefix.as_ref().map(|prefix| format!("{prefix}/")).unwrap_or_default();
    template_headers(text, site, found);
    let replaced = if pattern == PathPattern::TagsList {
        format!("replace `\"name\":\"` `\"name\":\"{prefix}`")
    } else {
        format!("replace `\",\"` `\",\"{prefix}` | replace `[\"` `[\"{prefix}`")
    };
    // Between backticks there can be none: quotation marks are escaped instead.
    let replaced = replaced.replace('"', "\\\"").replace('`', "\"");
    template_with(
        text,
        &format!(
            "~\"<- include (placeholder \"http.matchers.file.relative\") | {replaced} ->\"~\n\
             ~\"<- .RespHeader.Set \"Content-Type\" \"application/json\" ->\"~"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::MANIFEST;

    #[test]
    fn the_template_ends_no_quotation_and_has_no_placeholder() {
        assert!(!MANIFEST.contains('`') && !MANIFEST.contains('{'));
    }
}
