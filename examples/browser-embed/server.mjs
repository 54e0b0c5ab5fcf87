// Serves the page, an encoder and onnxruntime-web from this machine; nothing comes from elsewhere.
//
//   node examples/browser-embed/server.mjs encoder.onnx --port 8080
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { basename, dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const runtime = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));

const types = {
  ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml", ".wasm": "application/wasm", ".onnx": "application/octet-stream",
};
const pages = ["index.html", "page.css", "icon.svg", "page.mjs", "cards.mjs", "encoder.mjs", "modelMetadata.mjs", "pictures.mjs", "resize.mjs"];
const runtimeFiles = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

const headers = {
  // Threads in WebAssembly need memory that is shared, and that a page which is isolated from others.
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Content-Security-Policy":
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; img-src 'self' blob: data:",
  "X-Content-Type-Options": "nosniff",
  "Cache-Control": "no-cache",
};

/** The file behind a URL's path, or null. Only what is named here is served. */
function fileOf(path, model) {
  if (path === "/encoder.onnx") return model;
  const name = path === "/" ? "index.html" : path.slice(1);
  if (pages.includes(name)) return join(here, name);
  return path.startsWith("/onnxruntime/") && runtimeFiles.includes(basename(path)) ? join(runtime, basename(path)) : null;
}

/**
 * Starts the server.
 *
 * @param {{ model: string, port?: number, host?: string }} options port 0 takes any that is free
 * @returns {Promise<{ url: string, close: () => Promise<void> }>}
 */
export async function startServer({ model, port = 0, host = "127.0.0.1" }) {
  await stat(model);
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://localhost").pathname;
    const file = request.method === "GET" || request.method === "HEAD" ? fileOf(path, model) : null;
    if (file === null) {
      response.writeHead(404, { ...headers, "Content-Type": "text/plain" }).end("not found\n");
      return;
    }
    stat(file).then(({ size }) => {
      const type = types[path === "/encoder.onnx" ? ".onnx" : extname(file)];
      response.writeHead(200, { ...headers, "Content-Type": type, "Content-Length": size });
      if (request.method === "HEAD") response.end();
      else createReadStream(file).on("error", () => response.destroy()).pipe(response);
    }, () => response.writeHead(404, headers).end());
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(port, host, resolve));
  return {
    url: `http://${host}:${server.address().port}/`,
    close: () => new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    }),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { positionals, values } = parseArgs({ allowPositionals: true, options: { port: { type: "string", default: "8080" } } });
  if (positionals.length !== 1) {
    console.error("usage: node server.mjs encoder.onnx [--port 8080]\nMake the model with: npx moco convert CHECKPOINT encoder.onnx");
    process.exitCode = 2;
  } else {
    const { url } = await startServer({ model: positionals[0], port: Number(values.port) });
    console.log(url);
  }
}
