// A registry of plain files. Made by roadstead.
//
// The files lie at the paths of the OCI distribution API; this says what no list of headers can: the media type and the
// digest of what a tag names, which it reads from the manifest, pages of lists, and errors as the API has them.

// What each form of path is answered with; the first that matches counts.
const RULES = /*RULES*/;

const METHOD_NOT_ALLOWED = /*METHOD_NOT_ALLOWED*/;

// The answer to a browser that asks what a page of another origin may send.
const PREFLIGHT = /*PREFLIGHT*/;

// What an answer says besides that something is elsewhere.
const REDIRECTED = /*REDIRECTED*/;

const BAD_REQUEST = /*BAD_REQUEST*/;

// Tags whose digest is not the SHA-256 of the bytes that they name.
const DIGESTS = /*DIGESTS*/;

const BEHIND_THE_END = /*BEHIND_THE_END*/;

// The answer to a request below /v2/; nothing for any other. `file` fetches what lies at a path of the site.
export async function answer(request, file) {
  const url = new URL(request.url);
  let path;
  try {
    path = decodeURIComponent(url.pathname);
  } catch {
    return fixed(request, BAD_REQUEST);
  }
  if (path !== "/v2" && !path.startsWith("/v2/")) return undefined;
  if (/[\0-\x1f\x7f]/.test(path)) return fixed(request, BAD_REQUEST);
  if (request.method === "OPTIONS" && PREFLIGHT) return fixed(request, PREFLIGHT);
  if (request.method !== "GET" && request.method !== "HEAD") return fixed(request, METHOD_NOT_ALLOWED);
  for (const rule of RULES) {
    const match = rule.path.exec(path);
    if (!match) continue;
    if (rule.at) return redirect(rule.at, match.groups);
    const held = rule.found && (await file(path));
    if (!held || held.status !== 200) return fixed(request, rule.missing);
    return found(request, rule, url, path, match.groups ?? {}, held);
  }
}

async function found(request, rule, url, path, groups, held) {
  const { status, headers } = rule.found;
  if (rule.list) return list(request, rule, url, JSON.parse(await held.text()));
  const facts = { digest: groups.digest };
  let body = held.body;
  let size = held.headers.get("Content-Length");
  if (Object.values(headers).includes("{type}")) {
    body = await held.arrayBuffer();
    size = body.byteLength;
    facts.type = mediaType(JSON.parse(new TextDecoder().decode(body)));
    facts.digest ??= DIGESTS[path] ?? (await sha256(body));
    if (!facts.type) return fixed(request, rule.missing);
  }
  // What a host streams without saying how long it is has to be read for that.
  if (request.method === "HEAD" && size === null) size = (await held.arrayBuffer()).byteLength;
  const filled = fill(headers, facts);
  const etag = filled.get("ETag");
  if (unchanged(request.headers.get("If-None-Match"), etag)) return new Response(null, { status: 304, headers: filled });
  const range = request.headers.get("Range");
  const condition = request.headers.get("If-Range");
  if (range && (!condition || condition === etag)) {
    if (!(body instanceof ArrayBuffer)) body = await held.arrayBuffer();
    const part = cut(range, body.byteLength);
    if (part === "none") {
      filled.set("Content-Range", `bytes */${body.byteLength}`);
      return send(request, 416, filled, BEHIND_THE_END);
    }
    if (part) {
      filled.set("Content-Range", `bytes ${part.start}-${part.end - 1}/${body.byteLength}`);
      return send(request, 206, filled, body.slice(part.start, part.end));
    }
    size = body.byteLength;
  }
  return send(request, status, filled, body, size);
}

// Where the site sends for what it doesn't hold: the pieces of a URL.
function redirect(pieces, { name, tag, digest }) {
  const reference = digest ?? tag;
  const [algorithm, hex] = reference.split(":");
  const values = { name, reference, algorithm, hex };
  const location = pieces.map((piece) => (typeof piece === "string" ? piece : values[piece.of])).join("");
  return new Response(null, { status: 307, headers: { ...REDIRECTED, Location: location } });
}

function fixed(request, { status, headers, body }) {
  return send(request, status, fill(headers, {}), body || null);
}

function send(request, status, headers, body, size) {
  if (typeof body === "string") body = new TextEncoder().encode(body);
  const length = size ?? body?.byteLength;
  if (length !== undefined && length !== null) headers.set("Content-Length", String(length));
  return new Response(request.method === "HEAD" ? null : body, { status, headers });
}

function fill(headers, { type, digest }) {
  const filled = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    filled.set(name, value.replace("{type}", () => type).replace("{digest}", () => digest));
  }
  return filled;
}

// The media type of a manifest is a function of its bytes.
function mediaType(manifest) {
  let type = manifest.mediaType?.toLowerCase();
  if (!type) {
    if (manifest.manifests) type = "application/vnd.oci.image.index.v1+json";
    else if (manifest.config && manifest.layers) type = "application/vnd.oci.image.manifest.v1+json";
    else if (manifest.schemaVersion === 1) {
      type = `application/vnd.docker.distribution.manifest.v1+${manifest.signatures ? "prettyjws" : "json"}`;
    }
  }
  return /^application\/[a-z0-9][a-z0-9!#$&^_.+-]*$/.test(type ?? "") ? type : undefined;
}

async function sha256(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return "sha256:" + Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
