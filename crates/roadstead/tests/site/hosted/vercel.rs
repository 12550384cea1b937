//! Vercel serves nothing without a login. So its routes are held against the vendor's own schema and reader, and followed as
//! the documentation says: one after the other, headers added up, until one doesn't go on.

use roadstead_parts::{Invocation, part};

use super::Hosted;

const FOLLOW: &str = r#"
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
const [utils, file] = process.argv.slice(2);
const require = createRequire(utils);
const { normalizeRoutes, routesSchema } = require(utils);
const { version, routes } = JSON.parse(readFileSync(file));
if (version !== 3) throw new Error(`version ${version}`);
const validate = new (require("ajv"))({ allErrors: true }).compile(routesSchema);
if (!validate(routes)) throw new Error(JSON.stringify(validate.errors));
const { routes: normalized, error } = normalizeRoutes(routes);
if (error) throw new Error(JSON.stringify(error));
for (const path of readFileSync(0, "utf8").trim().split("\n")) {
  const headers = {};
  for (const route of normalized) {
    if (route.handle) break;
    const match = !route.methods?.includes("POST") && new RegExp(route.src).exec(path);
    if (!match) continue;
    for (const [name, value] of Object.entries(route.headers ?? {})) {
      headers[name.toLowerCase()] = value.replace(/\$([1-9])/g, (_, n) => match[n]);
    }
    if (!route.continue) break;
  }
  console.log(path, headers["content-type"], headers["docker-content-digest"]);
}
"#;

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn the_vendor_takes_the_routes() {
    let hosted = Hosted::new("vercel", |_, _| {});
    let follow = hosted.folder.write("follow.mjs", FOLLOW);
    let survey = &hosted.site.survey;
    let named =
        survey.names().map(|(repository, named)| (format!("/v2/{repository}/manifests/{}", named.reference), named));
    let named: Vec<_> = named.collect();
    let paths: Vec<_> = named.iter().map(|(path, _)| path.as_str()).collect();
    let followed = Invocation::new(part::installed("node"))
        .arg(follow)
        .arg(part::built("npm/routing-utils/node_modules/@vercel/routing-utils/dist/index.js"))
        .arg(hosted.folder.join("site/.vercel/output/config.json"))
        .input(paths.join("\n"))
        .run()
        .unwrap();
    assert_eq!(followed.stdout.lines().count(), named.len());
    for (came, (path, named)) in followed.stdout.lines().zip(&named) {
        let digest = if path.contains(':') { named.digest.to_string() } else { "undefined".to_owned() };
        assert_eq!(came, format!("{path} {} {digest}", named.media_type));
    }
}
