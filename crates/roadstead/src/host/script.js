// A list, or the part of it that a query asks for.
function list(request, { found, list }, url, content) {
  const headers = fill(found.headers, {});
  const query = url.searchParams;
  if (list === "manifests") {
    const type = query.get("artifactType");
    if (type) {
      content.manifests = content.manifests.filter((manifest) => manifest.artifactType === type);
      headers.set("OCI-Filters-Applied", "artifactType");
    }
    return send(request, found.status, headers, JSON.stringify(content));
  }
  const n = /^[0-9]+$/.test(query.get("n") ?? "") ? Number(query.get("n")) : Infinity;
  const last = query.get("last");
  const rest = last ? content[list].filter((name) => name > last) : content[list];
  content[list] = rest.slice(0, n);
  if (content[list].length < rest.length && n > 0) {
    const next = new URLSearchParams({ n, last: content[list].at(-1) });
    headers.set("Link", `<${url.pathname}?${next}>; rel="next"`);
  }
  return send(request, found.status, headers, JSON.stringify(content));
}

function unchanged(known, etag) {
  return Boolean(known && etag) && known.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag);
}

// The one range that is asked for: nothing if there are several or none that can be read, "none" if it is behind the end.
function cut(range, size) {
  const match = /^bytes=([0-9]*)-([0-9]*)$/.exec(range.trim());
  if (!match || (!match[1] && !match[2])) return undefined;
  const start = match[1] ? Number(match[1]) : Math.max(0, size - Number(match[2]));
  const end = match[1] && match[2] ? Math.min(size, Number(match[2]) + 1) : size;
  return start < end ? { start, end } : "none";
}
