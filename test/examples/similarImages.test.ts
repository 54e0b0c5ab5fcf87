/** The example server as a user starts it, with real requests. How fast it is and how its memory stays is measured by `moco bench serve`. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import { writeCheckpoint } from "../../lib/checkpoint/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import { ExampleServer, loadServer, writePictures, type Picture } from "../../scripts/bench/serveLoad.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

const folder = temporaryFolder("similar");
const images = join(folder, "images");
const checkpoint = join(folder, "encoder.pth");
let pictures: Picture[];

beforeAll(async () => {
  using encoder = new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 48, depth: 2, numHeads: 3, numClasses: 0 });
  await writeCheckpoint(checkpoint, { state_dict: encoder.stateDict(), moco_v3_run: { num_heads: 3 } });
  pictures = await writePictures(images, 24);
  writeFileSync(join(images, "none.jpg"), "no picture");
});

const start = (...words: string[]): Promise<ExampleServer> => ExampleServer.start(["--pretrained", checkpoint, "--images", images, "--threads", "1", ...words]);
const jpeg = { "content-type": "image/jpeg" };
const send = (server: ExampleServer, body: string | Uint8Array<ArrayBuffer> | Buffer, path = "/similar", headers: Record<string, string> = jpeg): Promise<Response> =>
  fetch(server.url + path, { method: "POST", body: body as string, headers });

test("finds each picture itself, under load, and takes bodies and forms", async () => {
  const server = await start("--body-limit", "200000");
  try {
    expect(await server.health()).toMatchObject({ status: "ok", images: 24, waiting: 0 });
    const load = await loadServer(server, pictures, { amount: 400, connections: 16 });
    expect(load).toMatchObject({ statuses: { 200: 400 }, wrong: 0, errors: 0 });

    const found = (await (await send(server, pictures[3]!.bytes, "/similar?k=4")).json()) as { similar: { file: string; similarity: number }[] };
    expect(found.similar).toHaveLength(4);
    expect(found.similar[0]!.file).toBe("3.jpg");
    expect(found.similar[0]!.similarity).toBeCloseTo(1, 5);
    const cosines = found.similar.map(({ similarity }) => similarity);
    expect(cosines).toEqual([...cosines].sort((a, b) => b - a));
    const form = new FormData();
    form.set("image", new Blob([pictures[7]!.bytes]), "what.jpg");
    const formed = (await (await fetch(`${server.url}/similar`, { method: "POST", body: form })).json()) as typeof found;
    expect(formed.similar[0]!.file).toBe("7.jpg");
    expect(formed.similar).toHaveLength(5);

    const refused: [Promise<Response>, number, RegExp][] = [
      [send(server, "no picture"), 422, /image 0 cannot be embedded: not an image/],
      [send(server, readFileSync(fixturePath("augment/files/china.jpg")).subarray(0, 3000)), 422, /cannot be embedded/],
      [send(server, Buffer.alloc(200_001)), 413, /too large/],
      [send(server, pictures[0]!.bytes, "/similar?k=0"), 400, /k is 0; give a whole number/],
      [send(server, ""), 400, /send a picture/],
      [send(server, "--x\r\n", "/similar", { "content-type": "multipart/form-data; boundary=y" }), 400, /send a picture/],
      [fetch(`${server.url}/nothing`), 404, /not found/],
    ];
    for (const [answer, status, message] of refused) {
      expect((await answer).status).toBe(status);
      expect(await (await answer).text()).toMatch(message);
    }
    expect((await loadServer(server, pictures, { amount: 50, connections: 4 })).wrong).toBe(0); // none of that harmed it
  } finally {
    expect(await server.stop()).toBe(0);
  }
}, 120_000);

test("a full queue is told as 503 with Retry-After, and what is answered is right; the end answers what has begun", async () => {
  const server = await start("--queue-limit", "2");
  const many = await Promise.all(Array.from({ length: 60 }, async (_, i) => {
    const picture = pictures[i % pictures.length]!;
    const response = await send(server, picture.bytes, "/similar?k=1");
    const body = (await response.json()) as { similar?: { file: string }[]; error?: string };
    return { status: response.status, retry: response.headers.get("retry-after"), right: body.similar?.[0]?.file === picture.name, error: body.error };
  }));
  const busy = many.filter(({ status }) => status === 503);
  expect(busy.length).toBeGreaterThan(0);
  expect(busy.every(({ retry, error }) => retry === "1" && error === "busy; try again")).toBe(true);
  const answered = many.filter(({ status }) => status === 200);
  expect(answered.length + busy.length).toBe(60);
  expect(answered.length).toBeGreaterThan(0);
  expect(answered.every(({ right }) => right)).toBe(true);

  const last = send(server, pictures[5]!.bytes, "/similar?k=1");
  const until = Date.now() + 5000;
  // The request is in the server once it is being embedded, or has been answered.
  while ((await server.health()).waiting === 0 && Date.now() < until && !(await Promise.race([last.then(() => true), Promise.resolve(false)])));
  const ended = server.stop("SIGINT");
  expect((await last).status).toBe(200);
  expect(await ended).toBe(0);
  await expect(send(server, pictures[5]!.bytes)).rejects.toThrow();
}, 120_000);
