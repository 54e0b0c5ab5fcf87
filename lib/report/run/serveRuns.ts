import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { isIP, type AddressInfo } from "node:net";
import type { Figure } from "../figure.js";
import { pagePolicy } from "../htmlPage.js";
import { FollowedRun, runNames } from "./followRun.js";
import { LivePage } from "./liveUpdate.js";
import { pageScript, picturesHtml, runPage } from "./runPage.js";
import type { ShownRun } from "./runParts.js";

/** How runs are followed. */
export interface ServeOptions {
  /** 0: any that is free. Default: 8350, or any where that is taken. */
  port?: number;
  /** Default 127.0.0.1: nobody else on the network. */
  host?: string;
  /** Draws what the network of the first run sees, when the reader asks for it. */
  pictures?: (folder: string, onWarning: (message: string) => void) => AsyncIterable<Figure>;
  /** Milliseconds from one look at the logs to the next. Default 1000. */
  pollMs?: number;
}

/** A report cannot be served. */
export class ReportServerError extends Error {
  override readonly name = "ReportServerError";
}

const defaultPort = 8350;
const mostPages = 32;
/** A line now and then, so that nothing between server and browser takes the connection for dead. */
const sayNothingMs = 15_000;

interface OpenPage {
  response: ServerResponse;
  known: LivePage;
}

/** Serves the report of runs, and tells open pages what is new as long as they are open. */
export class ReportServer implements AsyncDisposable {
  readonly #runs: FollowedRun[];
  readonly #server: Server = createServer((request, response) => void this.#answer(request, response));
  readonly #pages = new Set<OpenPage>();
  readonly #timers: NodeJS.Timeout[] = [];
  #figures: Figure[] = [];
  #drawing = false;
  #note = "";
  #refreshed: Promise<void> = Promise.resolve();
  #updates = 0;

  private constructor(runs: readonly string[], private readonly options: ServeOptions) {
    this.#runs = runs.map((run) => new FollowedRun(run));
  }

  /**
   * @param runs folders of runs, or their logs; they may still be empty, or not be there
   * @throws ReportServerError when the port or the address cannot be had
   */
  static async start(runs: readonly string[], options: ServeOptions = {}): Promise<ReportServer> {
    const server = new ReportServer(runs, options);
    await server.#refresh();
    await server.#listen();
    return server;
  }

  get url(): string {
    const { address, port, family } = this.#server.address() as AddressInfo;
    return `http://${family === "IPv6" ? `[${address}]` : address}:${port}/`;
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    this.#timers.forEach(clearInterval);
    for (const { response } of this.#pages) response.end();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #listen(): Promise<void> {
    const { host = "127.0.0.1", port, pollMs = 1000 } = this.options;
    const attempt = (at: number): Promise<void> => new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(at, host, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
    try {
      await attempt(port ?? defaultPort).catch((error: NodeJS.ErrnoException) => {
        if (port !== undefined || error.code !== "EADDRINUSE") throw error;
        return attempt(0);
      });
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const cure = code === "EADDRINUSE" ? "another program has it; choose another --port, or leave it out" : "choose another --host or --port";
      throw new ReportServerError(`port ${port ?? defaultPort} of ${host} cannot be had (${message}): ${cure}`, { cause: error });
    }
    this.#timers.push(
      setInterval(() => this.#pages.size > 0 && void this.#tell(), pollMs),
      setInterval(() => this.#pages.forEach(({ response }) => response.write(": still here\n\n")), sayNothingMs),
    );
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const path = (request.url ?? "/").split("?")[0];
      const { script } = pageScript();
      // Nothing is read from a path: what is not one of these is not there.
      const asked = `${request.method} ${path}`;
      response.setHeader("X-Content-Type-Options", "nosniff").setHeader("Referrer-Policy", "no-referrer").setHeader("Cache-Control", "no-store")
        .setHeader("Cross-Origin-Resource-Policy", "same-origin")
        .setHeader("Content-Security-Policy", `${pagePolicy({ script, live: true })}; frame-ancestors 'none'`);
      if (!this.#isMine(request)) return end(response, 403, "This report is served under another name; open the address that the command printed.");
      if (asked === "GET /" || asked === "HEAD /") {
        await this.#refresh();
        response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(runPage(this.#shown(), { live: true, pictures: this.#pictures() }));
      } else if (asked === "GET /events") {
        await this.#open(request, response);
      } else if (asked === "POST /pictures") {
        this.#askPictures(request, response);
      } else {
        const known = ["/", "/events", "/pictures"].includes(path!);
        end(response, known ? 405 : 404, known ? "Not this way." : "There is nothing here; the report is at /.");
      }
    } catch (error) {
      if (!response.headersSent) end(response, 500, (error as Error).message);
      else response.end();
    }
  }

  /** A page of another name that a browser was led to (DNS rebinding) gets nothing. */
  #isMine({ headers }: IncomingMessage): boolean {
    const { host = "127.0.0.1" } = this.options;
    const name = (headers.host ?? "").replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
    return isIP(name) !== 0 || name === "localhost" || name === host;
  }

  async #open(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.#pages.size >= mostPages) return end(response, 503, `${mostPages} pages are open already; close one.`);
    const page: OpenPage = { response, known: new LivePage() };
    request.on("close", () => this.#pages.delete(page));
    response.writeHead(200, { "Content-Type": "text/event-stream", "X-Accel-Buffering": "no" });
    response.write("retry: 1000\n\n");
    this.#pages.add(page);
    await this.#tell();
  }

  /** Reads what is new, and tells each page what it lacks. One that does not take what it was sent is told later. */
  async #tell(): Promise<void> {
    await this.#refresh();
    const shown = this.#shown();
    const generations = this.#runs.map(({ generation }) => generation);
    const pictures = this.#pictures();
    for (const { response, known } of this.#pages) {
      if (response.writableNeedDrain) continue;
      const update = known.update(shown, generations, pictures);
      if (update !== null) response.write(`id: ${++this.#updates}\nevent: update\ndata: ${JSON.stringify(update)}\n\n`);
    }
  }

  #refresh(): Promise<void> {
    // A log that cannot be read is told of on the page.
    this.#refreshed = this.#refreshed.then(async () => {
      for (const run of this.#runs) await run.refresh().catch(() => undefined);
    });
    return this.#refreshed;
  }

  #shown(): ShownRun[] {
    const names = runNames(this.#runs);
    return this.#runs.map((run, i) => run.shown(names[i]!));
  }

  #pictures(): string {
    if (this.options.pictures === undefined) return "";
    return picturesHtml(this.#figures, { button: !this.#drawing, note: this.#note });
  }

  #askPictures({ headers }: IncomingMessage, response: ServerResponse): void {
    // No page of another origin may send this header.
    if (headers["x-moco-report"] === undefined) return end(response, 403, "Only the report's own page can ask for this.");
    if (this.options.pictures === undefined) return end(response, 404, "This report has no pictures.");
    if (this.#drawing) return end(response, 409, "They are being drawn.");
    void this.#draw();
    end(response, 202, "");
  }

  async #draw(): Promise<void> {
    this.#drawing = true;
    const warnings: string[] = [];
    const figures: Figure[] = [];
    try {
      this.#note = "Reading the newest checkpoint and its images …";
      for await (const figure of this.options.pictures!(this.#runs[0]!.folder, (message) => warnings.push(message))) {
        figures.push(figure);
        this.#figures = [...figures];
        this.#note = `${figures.length} drawn so far …`;
      }
      this.#note = warnings.join(" ");
      if (figures.length === 0 && warnings.length === 0) this.#note = "There is nothing to draw: the run has no checkpoint yet.";
    } catch (error) {
      this.#note = `They could not be drawn: ${(error as Error).message}`;
    } finally {
      this.#drawing = false;
    }
  }
}

function end(response: ServerResponse, status: number, words: string): void {
  response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8" }).end(words);
}
