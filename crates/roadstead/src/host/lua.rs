//! The rules as a Lua function, for servers that run Lua: Apache and lighttpd.
//!
//! Lua itself can't read a link; LuaFileSystem can. One reading of it gives type, digest and body, as in nginx.
//! Reading the file and hashing it was the alternative: it needs no module where the server can
//! hash, as lighttpd can and Apache can't, and costs the more the larger a manifest is. Lua has no
//! regular expressions either, so that the grammar of paths is written once more, in the same order as
//! [`site::Path`] has it; the table of requests holds both to the same.

use std::fmt::Write as _;

use http::header::ACCEPT_RANGES;

use super::Unsupported;
use crate::site::{
    self, Answer, Body, Capture, Content, METHOD_NOT_ALLOWED, PAGE_TYPES, PREFLIGHT, RULES, Site, Value,
};

/// Statements that end with a local function `answer(method, path, known)`. `known` is the request's `If-None-Match`, or
/// nothing. It returns what to answer: `status`, `headers` (pairs), and either `body` or `file`, the path of what to send;
/// `ranges` says whether parts of it can be asked for, `api` whether the path is below `/v2/`.
pub(super) fn answers(site: &Site, root: &str) -> String {
    let mut rules = String::new();
    for rule in RULES.iter() {
        let _ = writeln!(rules, "  {:?} = {{", rule.pattern);
        if let Some(found) = &rule.found {
            let _ = writeln!(rules, "    found = {},", answer(site, found));
        }
        let _ = writeln!(rules, "    missing = {},", answer(site, &rule.missing));
        rules.push_str("  },\n");
    }
    let mut pages = String::new();
    for (extension, media_type) in PAGE_TYPES {
        let _ = writeln!(pages, "  {extension} = {},", quoted(media_type));
    }
    let prefix = site.name_prefix.as_ref().map(|prefix| format!("{prefix}/")).unwrap_or_default();
    // What people typed comes last, so that nothing is replaced in it.
    TEXT.replace("CORS", if site.cors { "true" } else { "false" })
        .replace("  RULES\n", &rules)
        .replace("  PAGES\n", &pages)
        .replace("REFUSED", &answer(site, &METHOD_NOT_ALLOWED))
        .replace("PREFLIGHT", &answer(site, &PREFLIGHT))
        .replace("PREFIX", &quoted(&prefix))
        .replace("ROOT", &quoted(root))
}

/// The place of the tree: Lua's texts can hold anything, but a configuration's lines can't.
pub(super) fn root(host: &'static str, given: &str) -> Result<String, Unsupported> {
    let problem = if given.is_empty() {
        "it is empty"
    } else if given.chars().any(char::is_control) {
        "it has a control character"
    } else if given.contains(['"', '\\', '$', '*', '?', '[', ']', '<', '>']) {
        "it has a character that means something else in a configuration"
    } else {
        return Ok(given.trim_end_matches('/').to_owned());
    };
    Err(Unsupported::Value { host, what: "the tree's place", value: given.to_owned(), problem })
}

fn answer(site: &Site, answer: &Answer) -> String {
    let mut text = format!("{{ status = {}, headers = {{", answer.status.as_u16());
    for (name, value) in site.headers(answer) {
        // Servers say by themselves that they serve ranges.
        if name == ACCEPT_RANGES {
            continue;
        }
        let value = match value {
            Value::Fixed(text) => quoted(text),
            Value::FromPath(Capture::Digest) | Value::OfContent(Content::Digest) => {
                if name == http::header::ETAG { "etag" } else { "digest" }.to_owned()
            }
            Value::OfContent(Content::MediaType) => "media_type".to_owned(),
            Value::OfPage => "page_type".to_owned(),
        };
        let _ = write!(text, " {{ {}, {value} }},", quoted(&site::spelled(&name)));
    }
    text.push_str(" }");
    match &answer.body {
        Body::Fixed(body) => {
            let _ = write!(text, ", body = {}", quoted(body));
        }
        Body::Object => {
            let ranges = answer.headers.iter().any(|(name, _)| *name == ACCEPT_RANGES);
            let _ = write!(text, ", ranges = {ranges}");
        }
    }
    text.push_str(" }");
    text
}

/// A text, quoted.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Names of patterns are those of [`site::PathPattern`].
const TEXT: &str = r#"local lfs = require "lfs"
local root, prefix, cors = ROOT, PREFIX, CORS

-- What only the object says.
local function media_type(of) return of.media_type end
local function digest(of) return of.digest end
local function etag(of) return '"' .. of.digest .. '"' end
local function page_type(of) return of.page_type end

local rules = {
  RULES
}
local refused = REFUSED
local preflight = PREFLIGHT
local page_types = {
  PAGES
}

local function is_name(text)
  for component in (text .. "/"):gmatch("([^/]*)/") do
    if not component:find("^[a-z0-9][a-z0-9._-]*$") or not component:find("[a-z0-9]$") then return false end
    for between in component:gmatch("[._-]+") do
      if between ~= "." and between ~= "_" and between ~= "__" and not between:find("^%-+$") then return false end
    end
  end
  return true
end

local function is_digest(text)
  local algorithm, hex = text:match("^(sha%d%d%d):([0-9a-f]+)$")
  return algorithm == "sha256" and #hex == 64 or algorithm == "sha512" and #hex == 128
end

local function is_tag(text)
  return #text <= 128 and text:find("^[A-Za-z0-9_][A-Za-z0-9._-]*$") ~= nil
end

local endpoints = {
  tags = function(last) return last == "list" and "TagsList" or nil end,
  manifests = function(last)
    return is_digest(last) and "ManifestByDigest" or is_tag(last) and "ManifestByTag" or "NotAReference"
  end,
  blobs = function(last) return is_digest(last) and "Blob" or "NotABlob" end,
  referrers = function(last) return is_digest(last) and "Referrers" or "NotASubject" end,
}

local function page(path)
  local folder, file = path:match("^(/.*/)([^/]*)$")
  if not folder then folder, file = path:match("^(/)([^/]*)$") end
  if not folder or folder:find("^/content/") then return "Outside" end
  for segment in folder:sub(2):gmatch("([^/]*)/") do
    if not segment:find("^[A-Za-z0-9_-][A-Za-z0-9._-]*$") then return "Outside" end
  end
  if file == "" then file = "index.html" end
  local extension = file:match("^[A-Za-z0-9_-][A-Za-z0-9._-]*%.([a-z]+)$")
  if not page_types[extension or ""] then return "Outside" end
  return "Page", (folder .. file):sub(2), page_types[extension]
end

-- What a path asks for: its form, where its object would lie, and the last component. The last two decide.
local function parse(path)
  if path == "/v2" or path == "/v2/" then return "Ping" end
  local rest = path:match("^/v2/(.*)$")
  if not rest then return page(path) end
  if rest == "_catalog" then return "Catalog", "v2/_catalog" end
  local name, kind, last = rest:match("^(.*)/([^/]*)/([^/]*)$")
  local form = endpoints[kind or ""] and endpoints[kind](last)
  if not form then return "Unknown" end
  if not is_name(name) then return "NotAName" end
  if name:sub(1, #prefix) ~= prefix then return form end
  return form, table.concat({ "v2", name:sub(#prefix + 1), kind, last }, "/"), last
end

-- A list with the prefix in front of each name, which the tree knows nothing of.
local function below_prefix(form, file)
  local from = prefix ~= "" and (form == "TagsList" or form == "Catalog") and io.open(file, "rb")
  if not from then return nil end
  local text = from:read("a")
  from:close()
  if form == "TagsList" then return (text:gsub('"name":"', '%0' .. prefix, 1)) end
  return (text:gsub('%["', '%0' .. prefix, 1):gsub('","', '%0' .. prefix))
end

local function filled(what, of, file, body)
  local headers = {}
  for index, header in ipairs(what.headers) do
    local value = header[2]
    headers[index] = { header[1], type(value) == "function" and value(of) or value }
  end
  return { status = what.status, headers = headers, file = file, body = body or what.body, ranges = what.ranges }
end

local function answer(method, path, known)
  local form, key, last = parse(path)
  if method ~= "GET" and method ~= "HEAD" then
    if cors and method == "OPTIONS" and form ~= "Page" and form ~= "Outside" then return filled(preflight) end
    return filled(refused)
  end
  local rule, of, file = rules[form], { digest = last, page_type = last }, nil
  if rule.found and key then file = root .. "/" .. key end
  if file and (form == "ManifestByTag" or form == "ManifestByDigest") then
    -- A name is a link whose target spells media type and digest. It is read once, so that what follows from it agrees.
    local target = lfs.symlinkattributes(file, "target") or ""
    local spelled = "/content/manifests/(application/[a-z0-9][a-z0-9!#$&^_.+-]*)/(sha%d%d%d:[0-9a-f]+)$"
    of.media_type, of.digest = target:match(spelled)
    file = of.digest and root .. "/content/manifests/" .. of.media_type .. "/" .. of.digest
  end
  if not file or lfs.attributes(file, "mode") ~= "file" then return filled(rule.missing, of) end
  if rule.found.ranges and known and known:find(etag(of), 1, true) then
    local unchanged = filled(rule.found, of, nil, "")
    unchanged.status = 304
    return unchanged
  end
  return filled(rule.found, of, file, below_prefix(form, file))
end
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::PathPattern;

    #[test]
    fn every_rule_is_there() {
        let text = answers(&Site { cors: true, ..Site::default() }, "/srv/registry");
        for pattern in PathPattern::ALL {
            assert!(text.contains(&format!("  {pattern:?} = {{\n")), "{pattern:?}");
        }
        for left in ["ROOT", "PREFIX", "CORS", "RULES", "PAGES", "REFUSED", "PREFLIGHT"] {
            assert!(!text.contains(left), "{left} is left over");
        }
    }

    #[test]
    fn texts_stand_for_themselves() {
        assert_eq!(quoted("a\"b\\c\n"), r#""a\"b\\c\n""#);
        for place in ["", "/a\nb", "/a\"b", "/a\\b", "/a$b", "/a*", "/a[b]", "/<a>"] {
            assert!(root("x", place).is_err(), "{place:?}");
        }
        assert_eq!(root("x", "/srv/a b'c/").unwrap(), "/srv/a b'c");
    }
}
