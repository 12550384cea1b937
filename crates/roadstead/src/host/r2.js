// A registry of the objects in an R2 bucket. Made by roadstead.
//
// The objects lie at the paths of the OCI distribution API, each with its media type, and with its digest as metadata. This
// says what a bucket can't: headers of other names, errors and methods as the API has them, pages of lists.

// What stands before v2/ in the names of the objects.
const BELOW = /*BELOW*/;

// What stands before the names of the repositories, and isn't in the bucket.
const PREFIX = /*PREFIX*/;

// What each form of path is answered with; the first that matches counts.
const RULES = /*RULES*/.map((rule) => ({ ...rule, path: new RegExp(rule.path) }));

const METHOD_NOT_ALLOWED = /*METHOD_NOT_ALLOWED*/;

const PREFLIGHT = /*PREFLIGHT*/;

const BAD_REQUEST = /*BAD_REQUEST*/;

const UNREADABLE = /*UNREADABLE*/;

const BEHIND_THE_END = /*BEHIND_THE_END*/;

const TYPE = /^application\/[a-z0-9][a-z0-9!#$&^_.+-]*$/;

const DIGEST = /^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

// How often an object may be replaced between two looks at it.
const ATTEMPTS = 3;

export default {
  async fetch(request, env) {
    try {
      return await answer(request, env.TREE);
    } catch (error) {
      console.error(request.url, error);
      return fixed(request, UNREADABLE);
    }
  },
};

async function answer(request, bucket) {
  const url = new URL(request.url);
  let path;
  try {
    path = decodeURIComponent(url.pathname);
  } catch {
    return fixed(request, BAD_REQUEST);
  }
  if (/[\0-\x1f\x7f]/.test(path)) return fixed(request, BAD_REQUEST);
  const rule = RULES.find((rule) => rule.path.test(path));
  const isRegistry = path === "/v2" || path.startsWith("/v2/");
  if (isRegistry && request.method === "OPTIONS" && PREFLIGHT) return fixed(request, PREFLIGHT);
  if (isRegistry && request.method !== "GET" && request.method !== "HEAD") return fixed(request, METHOD_NOT_ALLOWED);
  if (!rule.found) return fixed(request, rule.missing);
  const key = BELOW + path.slice(1).replace(`v2/${PREFIX}`, "v2/");
  if (rule.list) {
    const held = await bucket.get(key);
    return held ? list(request, rule, url, named(rule.list, await held.json())) : fixed(request, rule.missing);
  }
  const { digest } = rule.path.exec(path).groups;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const response = await object(request, rule, key, digest, bucket);
    if (response) return response;
  }
  throw new Error(`${key} is replaced faster than it can be read`);
}

// An object, or a part of it; nothing if it was replaced while it was looked at.
async function object(request, rule, key, digest, bucket) {
  const known = request.headers.get("If-None-Match");
  const range = request.method === "GET" && request.headers.get("Range");
  const first = request.method === "GET" && !known && !range ? await bucket.get(key) : await bucket.head(key);
  if (!first) return fixed(request, rule.missing);
  const type = first.httpMetadata?.contentType;
  if (Object.values(rule.found.headers).includes("{type}") && !TYPE.test(type)) return fixed(request, rule.missing);
  const said = first.customMetadata?.["docker-content-digest"];
  const headers = fill(rule.found.headers, { type, digest: digest ?? (DIGEST.test(said) ? said : undefined) });
  const etag = headers.get("ETag");
  if (unchanged(known, etag)) return new Response(null, { status: 304, headers });
  if (request.method === "HEAD" || first.body) return send(request, rule.found.status, headers, first.body, first.size);
  const condition = request.headers.get("If-Range");
  const part = range && (!condition || condition === etag) ? cut(range, first.size) : undefined;
  if (part === "none") {
    headers.set("Content-Range", `bytes */${first.size}`);
    return send(request, 416, headers, BEHIND_THE_END);
  }
  const { start, end } = part ?? { start: 0, end: first.size };
  const onlyIf = { etagMatches: first.etag };
  const held = await bucket.get(key, part ? { onlyIf, range: { offset: start, length: end - start } } : { onlyIf });
  if (!held?.body) return undefined;
  if (part) headers.set("Content-Range", `bytes ${start}-${end - 1}/${first.size}`);
  return send(request, part ? 206 : rule.found.status, headers, held.body, end - start);
}

// The names of a list as clients say them.
function named(kind, content) {
  if (kind === "tags") content.name = PREFIX + content.name;
  if (kind === "repositories") content.repositories = content.repositories.map((name) => PREFIX + name);
  return content;
}

function fixed(request, { status, headers, body }) {
  return send(request, status, fill(headers, {}), body || null);
}

function send(request, status, headers, body, size) {
  if (typeof body === "string") body = new TextEncoder().encode(body);
  const length = size ?? body?.byteLength;
  if (length !== undefined) headers.set("Content-Length", String(length));
  return new Response(request.method === "HEAD" ? null : body, { status, headers });
}

// Headers whose facts aren't known are left out.
function fill(headers, facts) {
  const filled = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    const fact = /\{(type|digest)\}/.exec(value)?.[1];
    if (!fact) filled.set(name, value);
    else if (facts[fact]) filled.set(name, value.replace(`{${fact}}`, () => facts[fact]));
  }
  return filled;
}
