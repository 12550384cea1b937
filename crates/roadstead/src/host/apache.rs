//! Apache httpd: one fixed configuration, whatever the tree holds, never reloaded when images come and go.
//!
//! Nothing in Apache's own language can say where a link leads, so a few lines of Lua (`mod_lua`, with LuaFileSystem) do,
//! where Apache translates a path into a file. They give every answer that isn't a file themselves, and leave the sending
//! of files, with ranges, to Apache. `RewriteMap prg:` with a helper that reads links was the alternative: one process
//! that all requests wait for, in a language of its own.
//!
//! Lua is a third of what a manifest costs then. A digest never moves, so for one of a known type `mod_rewrite`, where it
//! is loaded, looks into that type's folder and into the repository, and Apache sends the file without a line of Lua. It
//! does so only where it can't be wrong: a request with a condition, a range or another method, and whatever is in neither
//! place, goes on to Lua.
//!
//! Traps that the text avoids:
//!
//! - `LuaScope once`, the default, makes a Lua for each request: an eighth of the speed;
//! - an extension must not decide a type, and `mod_mime` comes after us: so the type is set once more at the end;
//! - Apache's own `ETag` is of the file: it is replaced before ranges are looked at (`FileETag None` would remove ours, too),
//!   and its `Last-Modified` says nothing about a tag that moves between files;
//! - a condition of `mod_rewrite` that looks at a header says so in `Vary`, but for `NV`;
//! - more than one range would be answered with `multipart/byteranges`, which no client of a registry expects.

use std::net::SocketAddr;

use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_TYPE};

use super::plain;
use super::text::Text;
use super::{ConfigFile, Group, Host, MANIFEST_TYPES, Unsupported, lua};
use crate::site::{self, Form, PathPattern, Site, Value};
use crate::tree::FOR_EVER;

/// Apache httpd.
pub(super) struct Apache;

const NAME: &str = "apache";

impl Host for Apache {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Server
    }

    fn summary(&self) -> &'static str {
        "httpd 2.4: one fixed configuration with a little Lua, never reloaded for images"
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        plain::refuse_for(NAME, site)?;
        let root = lua::root(NAME, &site.root)?;
        let mut text = Text::default();
        text.line("# A registry of plain files. Made by roadstead; the same for every tree, so it is never reloaded for images.");
        text.line("# Needs mod_lua, mod_headers and LuaFileSystem for Lua 5.3.");
        let (name, place) = match site.form {
            Form::Standalone | Form::Edge => return Err(Unsupported::Form { host: NAME, form: site.form }),
            Form::Snippet => {
                inside(&mut text, site, &root);
                ("roadstead-vhost.conf", "include it inside the <VirtualHost> that is to answer")
            }
            Form::Site => {
                let listen = listen(&site.listen)?;
                text.line(&format!("Listen {listen}"));
                let address = if listen.contains(':') { listen } else { format!("*:{listen}") };
                open(&mut text, &format!("VirtualHost {address}"));
                text.line("ServerName registry.invalid");
                text.line(&format!("DocumentRoot \"{root}\""));
                text.line("MergeSlashes Off");
                text.line("AllowEncodedSlashes On");
                text.line("KeepAlive On");
                text.line("MaxKeepAliveRequests 0");
                // Nothing above the tree has a say, and is looked for at each request.
                open(&mut text, "Directory \"/\"");
                text.line("AllowOverride None");
                close(&mut text, "Directory");
                inside(&mut text, site, &root);
                close(&mut text, "VirtualHost");
                ("roadstead.conf", "put it into /etc/apache2/sites-enabled/, then apachectl graceful")
            }
        };
        Ok(vec![ConfigFile { name: name.to_owned(), place: place.to_owned(), text: text.finish().into() }])
    }
}

fn open(text: &mut Text, section: &str) {
    text.line(&format!("<{section}>"));
    text.deeper();
}

fn close(text: &mut Text, section: &str) {
    text.shallower();
    text.line(&format!("</{section}>"));
}

/// What belongs into a virtual host.
fn inside(text: &mut Text, site: &Site, root: &str) {
    open(text, &format!("Directory \"{root}\""));
    for line in
        ["Options FollowSymLinks", "AllowOverride None", "Require all granted", "MaxRanges 1", "EnableSendfile On"]
    {
        text.line(line);
    }
    close(text, "Directory");
    for line in [
        "Header unset Last-Modified env=roadstead_type",
        "Header unset Accept-Ranges env=roadstead_whole",
        "Header set ETag \"%{roadstead_etag}e\" env=roadstead_etag",
        "Header always set Content-Type \"expr=%{reqenv:roadstead_type}\" env=roadstead_type",
        &format!("ErrorDocument 416 \"{}\"", site::BEHIND_THE_END.trim_end()),
        "LuaScope thread",
    ] {
        text.line(line);
    }
    // What Apache makes of a range that begins behind the end loses what the object's answer had, but for these.
    let mut fixed = String::new();
    for (name, value) in PathPattern::Blob.rule().found.iter().flat_map(|found| site.headers(found)) {
        if let Value::Fixed(value) = value
            && ![CONTENT_TYPE, CACHE_CONTROL, ACCEPT_RANGES].contains(&name)
        {
            let name = site::spelled(&name);
            text.line(&format!("Header always set {name} \"{value}\" env=roadstead_ranges"));
            fixed.push_str(&format!(" [\"{name}\"] = true,"));
        }
    }
    digests(text, site, root);
    text.line("<LuaHookTranslateName roadstead_answer>");
    for line in lua::answers(site, root).lines() {
        text.line(line);
    }
    text.line(&format!("local fixed = {{{fixed} }}"));
    for line in GLUE.lines() {
        if site.form == Form::Snippet || !line.contains("-- Outside") {
            text.line(line);
        }
    }
    text.line("</LuaHookTranslateName>");
}

/// Manifests of known types by their digests, without Lua. What is looked for in a header is what Lua decides on.
fn digests(text: &mut Text, site: &Site, root: &str) {
    // A percent sign would stand for something that a condition has matched.
    let root = root.replace('%', r"\%");
    let prefix = site.name_prefix.as_ref().map(|p| p.as_str().replace('.', "[.]") + "/").unwrap_or_default();
    open(text, "IfModule mod_rewrite.c");
    text.line("RewriteEngine On");
    for known in MANIFEST_TYPES {
        let file = format!("{root}/content/manifests/{known}/$2");
        text.line(&format!("RewriteCond \"{file}\" -f"));
        text.line(&format!("RewriteCond \"{root}/v2/$1/manifests/$2\" -f"));
        text.line("RewriteCond %{REQUEST_METHOD} ^(GET|HEAD)$");
        text.line("RewriteCond \"%{HTTP:If-None-Match}%{HTTP:If-Modified-Since}%{HTTP:Range}\" ^$ [NV]");
        // Nothing lies under a path that this takes and the grammar doesn't.
        text.line(&format!(
            "RewriteRule \"^/v2/{prefix}([a-z0-9._/-]+)/manifests/(sha[0-9]+:[0-9a-f]+)$\" \"{file}\" \
             [E=roadstead_type:{known},E=roadstead_named:$2,E=roadstead_ranges:1,END]"
        ));
    }
    text.line("Header set ETag \"\\\"%{roadstead_named}e\\\"\" env=roadstead_named");
    text.line("Header set Docker-Content-Digest \"%{roadstead_named}e\" env=roadstead_named");
    text.line(&format!("Header set Cache-Control \"{FOR_EVER}\" env=roadstead_named"));
    close(text, "IfModule");
}

const GLUE: &str = r#"
function roadstead_answer(r)
  if r.uri ~= "/v2" and r.uri:sub(1, 4) ~= "/v2/" then return apache2.DECLINED end -- Outside, others answer.
  local known = r.headers_in["If-None-Match"]
  local is = answer(r.method, r.uri, known)
  local sent = is.file and not is.body
  local headers = sent and r.err_headers_out or r.headers_out -- The former stay where Apache makes an error of it.
  for _, header in ipairs(is.headers) do
    local name, value = header[1], header[2]
    if name == "Content-Type" then
      r.content_type = value
      if sent then r.subprocess_env["roadstead_type"] = value end
    elseif sent and name == "ETag" then
      r.subprocess_env["roadstead_etag"] = value
    elseif not (sent and is.ranges and fixed[name]) then
      headers[name] = value
    end
  end
  if sent then
    if known then r.headers_in["If-None-Match"] = nil end
    if r.headers_in["If-Modified-Since"] then r.headers_in["If-Modified-Since"] = nil end
    if is.ranges then
      r.subprocess_env["roadstead_ranges"] = "1"
    else
      r.subprocess_env["roadstead_whole"] = "1"
      r.subprocess_env["no-gzip"] = "1"
      r.subprocess_env["no-brotli"] = "1"
      r.headers_in["Range"] = nil
    end
    r.filename = is.file
    return apache2.OK
  end
  r.status = is.status
  if is.body ~= "" then r:puts(is.body) end
  return apache2.DONE
end
"#;

/// Where to listen, checked.
fn listen(given: &str) -> Result<String, Unsupported> {
    let port = |port: &str| !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port > 0);
    let good = given.parse::<SocketAddr>().is_ok_and(|address| address.port() > 0)
        || port(given)
        || given.strip_prefix("*:").is_some_and(port);
    if good {
        return Ok(given.to_owned());
    }
    let problem = "expected PORT, ADDRESS:PORT or [ADDRESS]:PORT: Apache listens on no socket in the file system";
    Err(Unsupported::Value { host: NAME, what: "the address to listen on", value: given.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_listen() {
        for good in ["80", "127.0.0.1:80", "[::1]:5000", "*:80"] {
            assert!(listen(good).is_ok(), "{good:?} was refused");
        }
        for bad in ["", "0", "80\nUser root", "unix:/run/s", "host:80", "+80", "::1"] {
            assert!(listen(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_snippet_answers_below_v2_alone() {
        let site = Site { root: "/srv/r".to_owned(), listen: "80".to_owned(), ..Site::default() };
        let text = |form| Apache.render(&Site { form, ..site.clone() }).unwrap().remove(0).text.to_string();
        assert!(text(Form::Snippet).contains("DECLINED") && !text(Form::Snippet).contains("Listen"));
        assert!(!text(Form::Site).contains("DECLINED") && text(Form::Site).contains("Listen 80\n"));
        assert!(Apache.render(&Site { form: Form::Standalone, ..site }).is_err());
    }
}
