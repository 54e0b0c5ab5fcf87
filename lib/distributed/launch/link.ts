import type { Socket } from "node:net";
import { createInterface } from "node:readline";
import { parseMessage } from "./messages.js";

/** Longest line that is read: what is longer is from no launcher. */
const LONGEST_LINE = 1 << 20;
/** Signs of life in the time after which silence counts as loss. */
const PINGS = 6;

export interface LinkEvents<In> {
  onMessage(message: In): void;
  /** Called once, unless the link was closed from this side. */
  onLost(reason: string): void;
}

/**
 * Messages over a socket, one JSON object a line. Both ends send a sign of life now and then, as TCP by itself does not notice for hours that a
 * cable is cut.
 */
export class Link<In extends { type: string }, Out extends { type: string }> {
  #heard = performance.now();
  #open = true;
  readonly #timer: NodeJS.Timeout;

  constructor(private readonly socket: Socket, silenceMs: number, private readonly events: LinkEvents<In>) {
    socket.setNoDelay(true);
    let waiting = 0;
    socket.on("data", (chunk: Buffer) => {
      this.#heard = performance.now();
      waiting = chunk.includes(10) ? chunk.length - chunk.lastIndexOf(10) : waiting + chunk.length;
      if (waiting > LONGEST_LINE) this.#lose("what came is no message of a launcher");
    });
    // It passes the socket's errors on, which would end the process where nobody listens.
    createInterface({ input: socket }).on("line", (line) => this.#receive(line)).on("error", () => undefined);
    socket.on("error", (error) => this.#lose(error.message));
    socket.on("close", () => this.#lose("the connection was closed"));
    this.#timer = setInterval(() => {
      const silent = performance.now() - this.#heard;
      if (silent > silenceMs) this.#lose(`nothing was heard for ${Math.round(silent / 1000)} s`);
      else this.#write({ type: "ping" });
    }, silenceMs / PINGS);
  }

  send(message: Out): void {
    this.#write(message);
  }

  /** Sends what is to be sent, and closes; `onLost` is not called any more. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    clearInterval(this.#timer);
    this.socket.end();
    // A peer that does not close its own end must not keep this process.
    setTimeout(() => this.socket.destroy(), 1000).unref();
  }

  #write(message: { type: string }): void {
    if (this.#open) this.socket.write(`${JSON.stringify(message)}\n`);
  }

  #receive(line: string): void {
    if (!this.#open) return;
    const message = parseMessage<In>(line);
    if (message === null) this.#lose("what came is no message of a launcher");
    else if (message.type !== "ping") this.events.onMessage(message);
  }

  #lose(reason: string): void {
    if (!this.#open) return;
    this.#open = false;
    clearInterval(this.#timer);
    this.socket.destroy();
    this.events.onLost(reason);
  }
}
