//! The change that mends it, for the host where that is known.

use super::cause::Cause;
use super::host::Host;

/// What to change, in one or two sentences.
#[must_use]
pub fn remedy(cause: Cause, host: Option<Host>) -> Option<String> {
    let special = host.and_then(|host| on(cause, host));
    special.or_else(|| anywhere(cause)).map(str::to_owned)
}

/// What holds for one host.
fn on(cause: Cause, host: Host) -> Option<&'static str> {
    use Cause as C;
    use Host as H;
    Some(match (cause, host) {
        (
            C::TypeMissing | C::TypeWrong | C::TypeParameters | C::DigestHeaderMissing | C::DigestHeaderWrong,
            H::Nginx,
        ) => {
            "Serve the tree with `roadstead config nginx`; by hand: `types {} default_type \"\";` and `add_header` with the type and \
             the digest that the link's target spells, in the location of manifests."
        }
        (C::TypeMissing | C::TypeWrong | C::TypeParameters, H::Caddy) => {
            "Set the type by path: `header /v2/*/manifests/* Content-Type …` in the Caddyfile; extensions must not decide."
        }
        (C::TypeParameters, H::Apache) => {
            "Set `AddDefaultCharset Off` for /v2, and the types by `ForceType` or `Header set`."
        }
        (C::TypeMissing | C::TypeWrong, H::Apache) => {
            "Set the type by path: `<LocationMatch \"^/v2/.+/manifests/\">` with `ForceType`, and `RemoveType` and \
             `RemoveEncoding` for names with extensions."
        }
        (C::TypeMissing | C::TypeWrong | C::TypeParameters, H::Lighttpd) => {
            "Set the type by path: `mimetype.assign` matches ends of names only, so use `setenv.set-response-header` within \
             `$HTTP[\"url\"] =~ \"^/v2/.+/manifests/\"`."
        }
        (C::TypeMissing | C::TypeWrong | C::TypeParameters, H::S3 | H::Minio | H::R2) => {
            "Store each manifest with its own Content-Type: `aws s3api put-object --content-type TYPE`, or copy the tree into the \
             bucket with roadstead, which does so."
        }
        (C::TypeMissing | C::TypeWrong | C::TypeParameters, H::Gcs) => {
            "Store each manifest with its own type: `gcloud storage objects update --content-type=TYPE gs://…`."
        }
        (C::TypeMissing | C::TypeWrong | C::TypeParameters, H::AzureBlob) => {
            "Store each manifest with its own type: `az storage blob update --content-type TYPE`."
        }
        (C::TypeMissing | C::TypeWrong | C::TypeParameters, H::AzureStaticWebApps) => {
            "Name the type in `staticwebapp.config.json`: a route for each path, with `headers`."
        }
        (C::TypeMissing | C::TypeWrong | C::TypeParameters, H::Netlify) => {
            "Name the type in `_headers`, in exactly this spelling: `/v2/app/manifests/*` and, indented, `Content-Type: TYPE`. \
             That holds only for files which Netlify stores."
        }
        (C::TypeMissing | C::TypeWrong | C::TypeParameters, H::Cloudflare) => {
            "In `_headers`, take the type away before setting it, or both are joined: `! Content-Type`, then `Content-Type: TYPE`."
        }
        (C::TypeMissing | C::TypeWrong | C::TypeParameters, H::Firebase) => {
            "Name the type in `firebase.json`, under `hosting.headers`, by path."
        }
        (C::TypeMissing | C::TypeWrong | C::TypeParameters, H::Vercel) => {
            "Name the type in `vercel.json`, under `headers`, by path."
        }
        (C::TypeMissing | C::TypeWrong | C::TypeParameters, H::GithubPages | H::GitlabPages | H::Kubo | H::Python) => {
            "This host can set no types: put `roadstead serve --upstream URL` in front of it, or serve manifests elsewhere and leave \
             only blobs here. For podman, skopeo and CRI-O alone, `roadstead config --flavour schema1` writes a site that needs none."
        }
        (C::Encoded, H::S3 | H::Minio | H::R2) => {
            "Store the object again without Content-Encoding: `aws s3 cp s3://… s3://… --metadata-directive REPLACE`."
        }
        (C::Encoded, H::Gcs) => "Take it away: `gcloud storage objects update --clear-content-encoding gs://…`.",
        (C::Encoded, H::Apache) => "Add `RemoveEncoding .gz .tgz` (or `SetEnv no-gzip`) for /v2.",
        (C::EncodedOnTheWay, H::Nginx) => "Set `gzip off;` in the location of /v2.",
        (C::EncodedOnTheWay, H::Caddy) => "Leave /v2 out of `encode`.",
        (C::EncodedOnTheWay, H::Apache) => "Add `SetEnv no-gzip 1` for /v2.",
        (C::Absent | C::MissingForbidden | C::Forbidden, H::S3 | H::Minio) => {
            "A bucket answers 403 for what is missing unless the reader may list it: allow `s3:ListBucket` to everybody, or let \
             CloudFront answer 404 in place of 403."
        }
        (C::MissingForbidden | C::Forbidden, H::CloudFront) => {
            "Let the distribution answer 404 where the origin says 403 (custom error responses), or allow `s3:ListBucket` to it."
        }
        (C::MissingAnswered, H::Cloudflare) => {
            "Ship a `404.html` at the top: without one, Pages answers every miss with index.html."
        }
        (C::MissingAnswered, H::Netlify) => "Take the rule `/* /index.html 200` out of `_redirects`.",
        (C::MissingAnswered, H::Nginx) => "Take the fallback out of `try_files` for /v2: it must end in `=404`.",
        (C::MissingAnswered, H::Caddy) => "Take the fallback out of `try_files` for /v2.",
        (C::MissingAnswered, H::Apache) => "Leave /v2 out of `FallbackResource` and of rewriting.",
        (C::MissingAnswered, H::AzureBlob) => {
            "Name a document for errors that says 404: `az storage blob service-properties update --static-website \
             --404-document 404.html`."
        }
        (C::MissingAnswered, H::AzureStaticWebApps) => {
            "Take `navigationFallback` out of `staticwebapp.config.json`, or leave /v2/* out of it (`exclude`)."
        }
        (C::MissingAnswered, H::Firebase | H::Vercel) => "Leave /v2 out of the rewrites to index.html.",
        (C::RangeIgnored | C::Http10, H::Python) => "Python's http.server knows no ranges: use a web server that does.",
        (C::TagCached, H::Gcs) => {
            "Set `Cache-Control: no-cache` on tags: `gcloud storage objects update --cache-control=no-cache gs://…`; public \
             objects are kept for an hour otherwise."
        }
        (C::TagCached | C::TagStale, H::Cloudflare) => {
            "Set `Cache-Control: no-cache` for tags, and purge what is kept."
        }
        (C::TagStale, H::CloudFront | H::Fastly | H::Varnish) => {
            "Purge the tag, and give tags a short life: `Cache-Control: no-cache`."
        }
        (C::RateLimited, H::R2) => "`r2.dev` is throttled: give the bucket a domain of its own.",
        _ => return None,
    })
}

/// What holds for every host.
const fn anywhere(cause: Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::Unreachable => "Check the host's name, its port, and whether anything listens there.",
        Cause::Tls => {
            "Give the host a certificate that everybody trusts, with all certificates between it and its authority; or hand \
                       clients the authority's (`--cert-dir` here, `certs.d` for docker and podman)."
        }
        Cause::NoTls => {
            "Give the host TLS; or ask for http:// here, and tell clients that it has none (`insecure-registries` for docker, \
                       `--tls-verify=false` for podman and skopeo)."
        }
        Cause::Stalled => "Find out what keeps the host from answering; --timeout waits longer.",
        Cause::NotARegistry => "Serve the folder `v2` of a tree as /v2/, at the root of the host.",
        Cause::Login => {
            "Log in with `roadstead login`, or pass --creds; for pulls without a login, let everybody read."
        }
        Cause::Forbidden => "Let everybody read what lies below /v2/.",
        Cause::Absent => "Put it there, or name another image.",
        Cause::RateLimited => "Wait, or raise the limit.",
        Cause::Status => "Look into the host's own log.",
        Cause::HeadRefused => "Allow HEAD as well as GET: containerd and Docker 29 begin with it.",
        Cause::RedirectLoop => "Redirect each path at most once, to where it is answered.",
        Cause::RedirectRefused => "Redirect to a whole URL that anybody may ask for.",
        Cause::RedirectLeavesTls => "Redirect to https: what comes without it can be changed on the way.",
        Cause::TypeMissing | Cause::TypeWrong => "Serve each manifest with its own Content-Type.",
        Cause::TypeParameters => "Leave away what stands behind the type, such as a charset.",
        Cause::KindUnknown => "Nothing at the host: offer the image in a format of today.",
        Cause::DigestHeaderMissing => {
            "Add Docker-Content-Digest where the host can: it saves a request, and the client's own checks stay."
        }
        Cause::DigestHeaderMalformed | Cause::DigestHeaderWrong => {
            "Make Docker-Content-Digest name what is served, or leave it away."
        }
        Cause::LengthMissing => "Answer with Content-Length: serve manifests as files, without compression or chunks.",
        Cause::LengthWrong => "Give HEAD the length that GET has.",
        Cause::TagStale => "Let no cache keep tags: `Cache-Control: no-cache`, and purge what is kept.",
        Cause::TagCached => {
            "Give tags a short life: `Cache-Control: no-cache`; only what is named by a digest may be kept for long."
        }
        Cause::AcceptSplit => "Answer the same whatever Accept says.",
        Cause::NotAManifest | Cause::MissingAnswered => {
            "Answer with the files of /v2/, and with 404 where there is none."
        }
        Cause::TooLarge => "Serve manifests under /manifests/, and nothing else.",
        Cause::Damaged | Cause::SizeWrong => {
            "Put the right bytes there again; `roadstead verify` tells whether the tree has them."
        }
        Cause::Cut => "Look for a time limit or a size limit of the host or of a proxy.",
        Cause::Encoded => "Serve blobs as they are, without Content-Encoding.",
        Cause::EncodedOnTheWay => "Don't compress what lies below /v2/.",
        Cause::ChildAbsent => {
            "Add the missing manifests (`roadstead add` without --platform), or write an index of those that are there \
                               (`roadstead add --platform … --strip-removed-platforms`)."
        }
        Cause::PlatformAbsent => "Add the image for that platform, or ask about another one with --platform.",
        Cause::RangeIgnored | Cause::RangeWrong => "Answer `Range: bytes=N-` with 206, so that cut downloads go on.",
        Cause::Referrers => {
            "Serve an image index, if only an empty one, or answer 404 with a body that is no registry's error."
        }
        Cause::MissingForbidden | Cause::MissingStatus => "Answer 404 for what is not there.",
        Cause::TagsWrong => "Serve tags/list as the tree has it: `{\"name\": …, \"tags\": […]}`.",
        Cause::ColonEscaped => "Treat `%3A` as a colon: some proxies write it so.",
        Cause::Http10 => "Use a web server that speaks HTTP/1.1: each request takes a connection of its own now.",
        Cause::Ipv6 => "Listen on the IPv6 address as well, or take it out of the name's records.",
        Cause::ClockSkew => "Set the clock: certificates, tokens and signatures are judged by it.",
        Cause::NotAsked => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_code_of_its_own_and_a_remedy() {
        let codes: std::collections::BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.code()).collect();
        assert_eq!(codes.len(), Cause::ALL.len());
        for cause in Cause::ALL {
            assert!(remedy(*cause, None).is_some() || *cause == Cause::NotAsked, "{cause:?}");
            for host in Host::ALL {
                assert!(remedy(*cause, Some(*host)).is_none_or(|text| text.ends_with('.')), "{cause:?} {host:?}");
            }
        }
    }
}
