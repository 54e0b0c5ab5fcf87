/**
 * Finds images that look like a given one, over HTTP.
 *
 *   node server.mjs --pretrained runs/photos --images photos --port 3000
 *   curl --data-binary @cat.jpg -H 'content-type: image/jpeg' 'http://127.0.0.1:3000/similar?k=3'
 *   curl -F image=@cat.jpg 'http://127.0.0.1:3000/similar?k=3'
 */
import { parseArgs } from "node:util";
import Fastify from "fastify";
import { Embedder, EmbedderClosedError, EmbedError, EmbedQueueFullError } from "moco-v3";
import { SimilarImages } from "./similarImages.mjs";

const { values: options } = parseArgs({
  options: {
    pretrained: { type: "string" },
    images: { type: "string" },
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "3000" },
    "queue-limit": { type: "string", default: "256" }, // images that may wait: at 100 images/s the last one waits 2.6 s
    "body-limit": { type: "string", default: String(10 * 2 ** 20) }, // bytes
    threads: { type: "string" },
  },
});
if (!options.pretrained || !options.images) {
  console.error("usage: node server.mjs --pretrained CHECKPOINT --images DIR [--host H] [--port N] [--queue-limit N] [--body-limit BYTES] [--threads N]");
  process.exit(2);
}

const embedder = await Embedder.load(options.pretrained, {
  queueLimit: Number(options["queue-limit"]), ...(options.threads && { threads: Number(options.threads) }),
});
const index = await SimilarImages.of(options.images, embedder);
const server = Fastify({ bodyLimit: Number(options["body-limit"]) });

// A picture comes as the body itself or in a form.
server.removeAllContentTypeParsers();
server.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

async function pictureIn({ body, headers }) {
  const type = headers["content-type"] ?? "";
  if (!type.startsWith("multipart/form-data")) return body;
  const form = await new Response(body, { headers: { "content-type": type } }).formData().catch(() => new FormData());
  const file = [...form.values()].find((value) => typeof value !== "string");
  return file && new Uint8Array(await file.arrayBuffer());
}

server.post("/similar", async (request, reply) => {
  const k = Number(request.query.k ?? 5);
  if (!Number.isInteger(k) || k < 1 || k > 100) return reply.code(400).send({ error: `k is ${request.query.k}; give a whole number from 1 to 100` });
  const picture = await pictureIn(request);
  if (!picture?.length) return reply.code(400).send({ error: "send a picture: as the body, or as a file in a form" });
  // Who has gone needs no answer.
  const gone = new AbortController();
  reply.raw.once("close", () => gone.abort());
  const [vector] = await embedder.embed([picture], { signal: gone.signal });
  return { similar: index.nearest(vector, k) };
});

server.get("/health", async (_request, reply) => {
  if (!embedder.isOpen) reply.code(503);
  return { status: embedder.isOpen ? "ok" : "failed", images: index.length, waiting: embedder.waiting, memory: process.memoryUsage.rss() };
});

server.setErrorHandler((error, _request, reply) => {
  if (error instanceof EmbedQueueFullError) return reply.code(503).header("retry-after", "1").send({ error: "busy; try again" });
  if (error instanceof EmbedError) return reply.code(422).send({ error: error.message });
  if (error instanceof EmbedderClosedError) return reply.code(503).send({ error: "the encoder has ended" });
  if (error.name === "AbortError") return reply.code(499).send(); // nobody reads it
  const code = error.statusCode ?? 500;
  if (code === 500) console.error(error);
  return reply.code(code).send({ error: code === 500 ? "the picture could not be compared" : error.message });
});

// Requests that have begun are answered, on connections that end with that; then the embedder's thread ends, and with it the process.
let closing = false;
server.addHook("onSend", async (_request, reply) => {
  if (closing) reply.header("connection", "close");
});
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    closing = true;
    await server.close();
    await embedder.dispose();
  });
}
console.log(`${index.length} images; listening on ${await server.listen({ host: options.host, port: Number(options.port) })}`);
