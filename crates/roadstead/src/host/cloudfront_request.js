// Before a request reaches the cache: only what can be pulled goes on.
const METHOD_NOT_ALLOWED = /*METHOD_NOT_ALLOWED*/;
const PREFLIGHT = /*PREFLIGHT*/;
const OUTSIDE = /*OUTSIDE*/;

function handler(event) {
  const request = event.request;
  const isRegistry = request.uri === "/v2" || request.uri.startsWith("/v2/");
  if (!isRegistry) return fixed(OUTSIDE);
  if (request.method === "OPTIONS" && PREFLIGHT) return fixed(PREFLIGHT);
  if (request.method !== "GET" && request.method !== "HEAD") return fixed(METHOD_NOT_ALLOWED);
  if (request.uri === "/v2") request.uri = "/v2/";
  return request;
}

function fixed(answer) {
  const headers = {};
  for (const name in answer.headers) headers[name.toLowerCase()] = { value: answer.headers[name] };
  return { statusCode: answer.status, headers: headers, body: { encoding: "text", data: answer.body } };
}
