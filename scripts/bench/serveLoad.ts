/** The example server, started as a user does, and loaded with real requests whose answers are checked. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import autocannon from "autocannon";
import sharp from "sharp";
import { childEnvironment } from "../../lib/config.js";
import { BenchmarkError } from "./peer.js";

const serverFile = fileURLToPath(new URL("../../../examples/similar-images/server.mjs", import.meta.url));

/** A picture to send, and the file whose name the answer must have first: its own. */
export interface Picture {
  name: string;
  bytes: Buffer;
}

export interface LoadOptions {
  /** Requests in all. */
  amount: number;
  connections: number;
}

export interface LoadResult {
  /** Responses by their status. */
  statuses: Record<string, number>;
  /** Answers of status 200 whose first file was not the picture that was sent. */
  wrong: number;
  /** Connections that broke, and requests without an answer. */
  errors: number;
  /** Milliseconds. */
  latency: { p50: number; p90: number; p99: number; max: number; mean: number };
  requestsPerSecond: number;
  /** Resident memory of the server in bytes, and how many answers had come when it was read. */
  memory: { answers: number; bytes: number }[];
}

/** Small pictures of colours and stripes, each like no other, as `folder/0.jpg` and so on. */
export async function writePictures(folder: string, count: number, side = 96): Promise<Picture[]> {
  mkdirSync(folder, { recursive: true });
  return Promise.all(Array.from({ length: count }, async (_, i) => {
    const pixels = Buffer.alloc(side * side * 3);
    for (let at = 0; at < side * side; at++) {
      const [x, y] = [at % side, Math.floor(at / side)];
      const wave = Math.sin((x * Math.cos(i) + y * Math.sin(i)) / (3 + (i % 13)));
      for (let channel = 0; channel < 3; channel++) pixels[3 * at + channel] = 128 + 120 * wave * Math.cos(i * (channel + 1) * 0.7);
    }
    const name = `${i}.jpg`;
    const bytes = await sharp(pixels, { raw: { width: side, height: side, channels: 3 } }).jpeg({ quality: 90 }).toBuffer();
    await writeFile(join(folder, name), bytes);
    return { name, bytes };
  }));
}

/** A running example server. */
export class ExampleServer {
  private constructor(readonly url: string, readonly process: ChildProcess, private readonly ended: Promise<number | null>) {}

  /** @param words flags of the server; the port is a free one */
  static async start(words: readonly string[]): Promise<ExampleServer> {
    const child = spawn(process.execPath, [serverFile, "--port", "0", ...words], { stdio: ["ignore", "pipe", "pipe"], env: childEnvironment({}) });
    let output = "";
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
    const url = await new Promise<string>((resolve, reject) => {
      const see = (text: Buffer): void => {
        output += text.toString();
        const found = /listening on (http:\S+)/.exec(output)?.[1];
        if (found !== undefined) resolve(found);
      };
      child.stdout.on("data", see);
      child.stderr.on("data", see);
      void ended.then((code) => reject(new BenchmarkError(`the example server ended with code ${code}:\n${output}`)));
    });
    return new ExampleServer(url, child, ended);
  }

  async health(): Promise<{ status: string; images: number; waiting: number; memory: number }> {
    return (await (await fetch(`${this.url}/health`)).json()) as never;
  }

  /** Asks it to end, and waits: the exit code. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    this.process.kill(signal);
    return this.ended;
  }
}

/** Sends `amount` requests over some connections, each picture in turn, and looks at every answer. */
export async function loadServer(server: ExampleServer, pictures: readonly Picture[], { amount, connections }: LoadOptions): Promise<LoadResult> {
  const result = { statuses: {} as Record<string, number>, wrong: 0, answers: 0 };
  const requests = pictures.map(({ name, bytes }): autocannon.Request => ({
    method: "POST", path: "/similar?k=1", headers: { "content-type": "image/jpeg" }, body: bytes,
    onResponse(status, body) {
      result.answers++;
      result.statuses[status] = (result.statuses[status] ?? 0) + 1;
      if (status === 200 && (JSON.parse(body) as { similar: { file: string }[] }).similar[0]?.file !== name) result.wrong++;
    },
  }));
  const memory: LoadResult["memory"] = [{ answers: 0, bytes: (await server.health()).memory }];
  const watching = setInterval(() => void server.health().then(({ memory: bytes }) => memory.push({ answers: result.answers, bytes })).catch(() => undefined), 500);
  try {
    const { latency, errors, timeouts, duration } = await autocannon({ url: server.url, connections, amount, requests, timeout: 60 });
    memory.push({ answers: result.answers, bytes: (await server.health()).memory });
    return {
      statuses: result.statuses, wrong: result.wrong, errors: errors + timeouts,
      latency: { p50: latency.p50, p90: latency.p90, p99: latency.p99, max: latency.max, mean: latency.average },
      requestsPerSecond: result.answers / duration, memory,
    };
  } finally {
    clearInterval(watching);
  }
}
