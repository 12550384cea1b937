// R2 and a Worker over it, in the real workerd. Arguments: the library, the Worker, a list of objects, the port.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const [library, worker, objects, port] = process.argv.slice(2);
const { Miniflare } = createRequire(import.meta.url)(library);
const miniflare = new Miniflare({
  modules: true,
  script: await readFile(worker, "utf8"),
  compatibilityDate: "2026-01-01",
  host: "127.0.0.1",
  // Nobody is answered before the objects are there.
  port: 0,
  r2Buckets: { TREE: "tree" },
  cf: false,
});
const bucket = await miniflare.getR2Bucket("TREE");
for (const { key, file, contentType, cacheControl, digest } of JSON.parse(await readFile(objects, "utf8"))) {
  await bucket.put(key, new Uint8Array(await readFile(file)), {
    httpMetadata: { contentType: contentType ?? undefined, cacheControl: cacheControl ?? undefined },
    customMetadata: digest ? { "docker-content-digest": digest } : {},
  });
}
const { createServer, connect } = await import("node:net");
const inner = await miniflare.ready;
// Bytes are handed on as they are: what is tested is what workerd answers.
const server = createServer((outer) => {
  const stream = connect(inner.port, inner.hostname);
  outer.pipe(stream).pipe(outer);
  for (const socket of [outer, stream]) socket.on("error", () => { outer.destroy(); stream.destroy(); });
});
server.listen(Number(port), "127.0.0.1");
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => miniflare.dispose().then(() => process.exit(0)));
