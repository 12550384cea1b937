//! lighttpd: one fixed configuration and one script, whatever the tree holds, never reloaded when images come and go.
//!
//! `mod_magnet` runs the script where lighttpd has found a path's file, and the script says which file it is instead, or
//! answers by itself. It needs LuaFileSystem, since lighttpd's own functions follow links without saying where to.

use std::net::SocketAddr;

use super::plain;
use super::text::Text;
use super::{ConfigFile, Group, Host, Unsupported, lua};
use crate::site::{Form, Site};

/// lighttpd.
pub(super) struct Lighttpd;

const NAME: &str = "lighttpd";

impl Host for Lighttpd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Server
    }

    fn summary(&self) -> &'static str {
        "1.4: one fixed configuration and a Lua script, never reloaded for images"
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        plain::refuse_for(NAME, site)?;
        let root = lua::root(NAME, &site.root)?;
        let mut text = Text::default();
        text.line("# A registry of plain files. Made by roadstead; the same for every tree, so it is never reloaded for images.");
        text.line("# Needs mod_setenv, mod_magnet, and LuaFileSystem for the Lua that it is linked with.");
        // A script's path is an absolute one.
        let script = if site.form == Form::Standalone {
            "var.CWD + \"/roadstead.lua\""
        } else {
            "\"/etc/lighttpd/roadstead.lua\""
        };
        if site.form == Form::Standalone {
            text.line("server.modules = ( \"mod_setenv\", \"mod_magnet\" )");
            text.line("server.feature-flags += ( \"server.graceful-shutdown-timeout\" => 30 )");
        } else {
            text.line("server.modules += ( \"mod_setenv\", \"mod_magnet\" )");
        }
        let (name, place) = match site.form {
            Form::Edge => return Err(Unsupported::Form { host: NAME, form: site.form }),
            Form::Snippet => {
                text.open("$HTTP[\"url\"] =~ \"^/v2(/|$)\"");
                inside(&mut text, &root, script);
                text.close();
                ("roadstead.conf", "put it into /etc/lighttpd/conf-enabled/, or include it where your site is")
            }
            Form::Site => {
                text.open(&format!("$SERVER[\"socket\"] == \"{}\"", listen(&site.listen)?.text()));
                inside(&mut text, &root, script);
                text.close();
                ("roadstead.conf", "put it into /etc/lighttpd/conf-enabled/, then reload lighttpd")
            }
            Form::Standalone => {
                match listen(&site.listen)? {
                    Listen::Address(host, port) => {
                        text.line(&format!("server.bind = \"{host}\""));
                        text.line(&format!("server.port = {port}"));
                    }
                    Listen::Socket(path) => text.line(&format!("server.bind = \"{path}\"")),
                }
                inside(&mut text, &root, script);
                ("lighttpd.conf", "run it with lighttpd -D -f FILE, from the folder that has the script")
            }
        };
        let place_of_script = if site.form == Form::Standalone { "beside it" } else { "/etc/lighttpd/roadstead.lua" };
        Ok(vec![
            ConfigFile { name: name.to_owned(), place: place.to_owned(), text: text.finish().into() },
            ConfigFile {
                name: "roadstead.lua".to_owned(),
                place: format!("put it {}", place_of_script.replace("/etc", "at /etc")),
                text: (HEAD.to_owned() + &indented(&lua::answers(site, &root)) + GLUE).into(),
            },
        ])
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect()
}

fn inside(text: &mut Text, root: &str, script: &str) {
    text.line(&format!("server.document-root = \"{root}\""));
    text.line("server.follow-symlink = \"enable\"");
    text.line(&format!("magnet.attract-physical-path-to = ( {script} )"));
    text.line("# The date of a file says nothing about a tag that moves between files.");
    text.line("setenv.set-response-header = ( \"Last-Modified\" => \"\" )");
}

/// Each request runs the script anew; what is made of the rules stays.
const HEAD: &str = "-- A registry of plain files. Made by roadstead; the same for every tree.
local loaded = package.loaded
if not loaded[\"roadstead\"] then
";

const GLUE: &str = r#"
  loaded["roadstead"] = answer
end

local r = lighty.r
local is = loaded["roadstead"](r.req_attr["request.method"], r.req_attr["uri.path"], r.req_header["If-None-Match"])
for _, header in ipairs(is.headers) do r.resp_header[header[1]] = header[2] end
if is.file and not is.body then
  r.req_header["If-None-Match"] = ""
  r.req_header["If-Modified-Since"] = ""
  local range = r.req_header["Range"]
  if range and (not is.ranges or range:find(",", 1, true)) then r.req_header["Range"] = "" end
  r.req_attr["physical.path"] = is.file
  return 0
end
r.resp_body.set(is.body)
return is.status
"#;

enum Listen {
    Address(String, u16),
    Socket(String),
}

impl Listen {
    fn text(&self) -> String {
        match self {
            Self::Address(host, port) => format!("{host}:{port}"),
            Self::Socket(path) => path.clone(),
        }
    }
}

/// Where to listen, checked.
fn listen(given: &str) -> Result<Listen, Unsupported> {
    if let Ok(address) = given.parse::<SocketAddr>()
        && address.port() > 0
    {
        let (host, port) = given.rsplit_once(':').unwrap_or_default();
        return Ok(Listen::Address(host.to_owned(), port.parse().unwrap_or_default()));
    }
    if let Some(port) = given.parse::<u16>().ok().filter(|port| *port > 0 && !given.starts_with('+')) {
        return Ok(Listen::Address("0.0.0.0".to_owned(), port));
    }
    match given.strip_prefix("unix:") {
        Some(path)
            if path.starts_with('/') && !path.contains(['"', '\\', '$']) && !path.chars().any(char::is_control) =>
        {
            Ok(Listen::Socket(path.to_owned()))
        }
        _ => Err(Unsupported::Value {
            host: NAME,
            what: "the address to listen on",
            value: given.to_owned(),
            problem: "expected PORT, ADDRESS:PORT, [ADDRESS]:PORT or unix:/PATH",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_listen() {
        for (given, expected) in
            [("80", "0.0.0.0:80"), ("127.0.0.1:80", "127.0.0.1:80"), ("[::1]:5000", "[::1]:5000"), ("unix:/s", "/s")]
        {
            assert_eq!(listen(given).ok().unwrap().text(), expected);
        }
        for bad in ["", "0", "80\"", "unix:s", "unix:/a\"b", "host:80", "+80", "::1"] {
            assert!(listen(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
