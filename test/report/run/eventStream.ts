/** Reads Server-Sent Events as a page does. */
import { request, type ClientRequest, type IncomingMessage } from "node:http";
import type { LiveUpdate } from "../../../lib/report/run/liveUpdate.js";

export class EventStream implements Disposable {
  readonly #updates: LiveUpdate[] = [];
  #text = "";
  #wake: () => void = () => undefined;
  #ended = false;
  /** Once the server has ended it. */
  readonly closed: Promise<void>;

  private constructor(readonly request: ClientRequest, response: IncomingMessage) {
    response.setEncoding("utf8").on("data", (chunk: string) => this.#take(chunk));
    this.closed = new Promise((resolve) => response.on("close", () => {
      this.#ended = true;
      this.#wake();
      resolve();
    }));
    response.on("error", () => undefined);
  }

  static open(url: string): Promise<EventStream> {
    return new Promise((resolve, reject) => {
      const asked = request(new URL("events", url), { headers: { Accept: "text/event-stream" }, agent: false }, (response) => {
        if (response.headers["content-type"] === "text/event-stream") resolve(new EventStream(asked, response));
        else reject(new Error(`${response.statusCode}`));
      });
      asked.on("error", reject);
      asked.end();
    });
  }

  /** The next update, once it has come. */
  async next(): Promise<LiveUpdate> {
    while (this.#updates.length === 0) {
      if (this.#ended) throw new Error("the stream has ended");
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return this.#updates.shift()!;
  }

  [Symbol.dispose](): void {
    this.request.destroy();
  }

  #take(chunk: string): void {
    this.#text += chunk;
    const blocks = this.#text.split("\n\n");
    this.#text = blocks.pop()!;
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data !== undefined) this.#updates.push(JSON.parse(data.slice(6)) as LiveUpdate);
    }
    this.#wake();
  }
}
