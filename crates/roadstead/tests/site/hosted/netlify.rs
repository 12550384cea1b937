//! What Netlify's emulator can't show: it replaces no `Content-Type`, and fetches what edge functions run in from elsewhere.
//! So the rules are judged by the vendor's own parser, and the script runs in Node, with a stand-in for the files.

use roadstead::site::{Form, Site, Survey};
use roadstead_parts::{Emulator, Folder, Invocation, Isolation, Port, Served, part};

use super::{Hosted, Says};
use crate::cases::cases;
use crate::client::Address;
use crate::conformance::{ask, run};
use crate::fixture::Fixture;

/// Prints the type that the rules of a file give each path that is read.
const JUDGE: &str = r#"
import { readFileSync } from "node:fs";
const [parser, file] = process.argv.slice(2);
const { parseAllHeaders } = await import(parser);
const { headers, errors } = await parseAllHeaders({ headersFiles: [file], configHeaders: [], minimal: false });
if (errors.length) throw errors[0];
for (const path of readFileSync(0, "utf8").trim().split("\n")) {
  const matching = headers.filter(({ forRegExp }) => forRegExp.test(path)).map(({ values }) => values);
  console.log(path, Object.assign({}, ...matching)["Content-Type"]);
}
"#;

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn the_vendor_reads_the_rules_as_they_are_meant() {
    let hosted = Hosted::new("netlify", |_, _| {});
    let judge = hosted.folder.write("judge.mjs", JUDGE);
    let named = |reference, repository| format!("/v2/{repository}/manifests/{reference}");
    let survey = &hosted.site.survey;
    let paths: Vec<_> = survey.names().map(|(repository, name)| named(&name.reference, repository)).collect();
    let parser = part::built("npm/netlify/node_modules/.bin/netlify");
    let parser = parser.ancestors().nth(2).unwrap().join("@netlify/headers-parser/lib/index.js");
    let judged = Invocation::new(part::installed("node"))
        .arg(judge)
        .arg(parser)
        .arg(hosted.folder.join("site/public/_headers"))
        .input(paths.join("\n"))
        .run()
        .unwrap();
    let expected =
        survey.names().map(|(repository, name)| format!("{} {}", named(&name.reference, repository), name.media_type));
    for (came, expected) in judged.stdout.lines().zip(expected) {
        assert_eq!(came, expected);
    }
    assert_eq!(judged.stdout.lines().count(), paths.len());
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn the_emulator_serves_what_the_tree_has() {
    let hosted = Hosted::new("netlify", |_, site| site.cors = true);
    let emulated = hosted.emulate(Emulator::Netlify);
    hosted.check(&emulated, Says { types: false, digests: false, tag_digests: false, no_referrers: false });
}

/// Answers with a script's default export, whose `context.next` reads files.
const STAND_IN: &str = r#"
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
const [script, folder, port] = process.argv.slice(2);
const { default: handle } = await import(script);
const next = async (request) => {
  const path = decodeURIComponent(new URL(request.url).pathname);
  try {
    return new Response(await readFile(folder + path));
  } catch {
    return new Response("missing", { status: 404 });
  }
};
createServer(async (message, reply) => {
  const request = new Request(`http://registry${message.url}`, { method: message.method, headers: message.headers });
  const response = (await handle(request, { next })) ?? (await next(request));
  reply.writeHead(response.status, Object.fromEntries(response.headers));
  reply.end(response.body && Buffer.from(await response.arrayBuffer()));
}).listen(Number(port), "127.0.0.1");
"#;

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn the_edge_function_answers_by_the_rules() {
    let fixture = Fixture::new();
    let survey = fixture.runtime.block_on(Survey::of(&fixture.tree)).unwrap();
    let site = Site { survey, form: Form::Edge, ..Site::default() };
    let host = roadstead::host::find("netlify").unwrap();
    let hosted = Hosted { folder: Folder::new(), site, host, fixture };
    hosted.publish();
    let site = hosted.folder.join("site");
    // What Node takes for a module.
    let script = hosted.folder.join("registry.mjs");
    std::fs::copy(site.join("netlify/edge-functions/registry.js"), &script).unwrap();
    let (folder, port) = (Folder::new(), Port::free());
    let node = Invocation::new(part::installed("node"))
        .arg(folder.write("stand-in.mjs", STAND_IN))
        .arg(&script)
        .arg(site.join("public"))
        .arg(port.number().to_string());
    let address = Address::Tcp(port.address());
    let _served = Served::start(&node, Isolation::None, folder, || port.answers());
    // Names that are taken for pages are rewritten by the host before the script's files come.
    let all = cases(&hosted.fixture).into_iter();
    let cases: Vec<_> = all.filter(|case| case.everywhere && !case.path.contains(".html")).collect();
    run("netlify with a script", &cases, |case| ask(&address, case, "Connection: close\r\n"));
}
