/** A tracking server in memory that keeps to MLflow's limits, and fails as a test asks. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface FakeRun {
  experiment: string;
  name?: string;
  status: string;
  endTime: number | null;
  deleted: boolean;
  params: Map<string, string>;
  metrics: { key: string; value: number; step: number; timestamp: number }[];
  tags: Record<string, string>;
}

/** What to do with a request in place of answering it: a status, a page, or nothing at all. */
export type Mischief = (method: string, count: number) => number | string | "hang" | null;

type Body = Record<string, never> & {
  name: string; run_id: string; experiment_id: string; run_name?: string; status: string; end_time?: number;
  params?: { key: string; value: string }[]; metrics?: FakeRun["metrics"]; tags?: { key: string; value: string }[];
};

export class FakeMlflow {
  readonly experiments = new Map<string, string>();
  readonly runs = new Map<string, FakeRun>();
  readonly requests: { method: string; authorization: string | undefined; body: Body }[] = [];
  mischief: Mischief = () => null;
  #server: Server | null = null;
  #port = 0;

  static async start(): Promise<FakeMlflow> {
    const fake = new FakeMlflow();
    await fake.listen();
    return fake;
  }

  get uri(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Once more on the same port, after `stop`. */
  async listen(): Promise<void> {
    this.#server = createServer((request, response) => void this.#answer(request, response));
    await new Promise<void>((resolve) => this.#server!.listen(this.#port, "127.0.0.1", resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    server?.closeAllConnections();
    await new Promise<void>((resolve) => (server === null ? resolve() : server.close(() => resolve())));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** The only run. */
  get run(): FakeRun {
    if (this.runs.size !== 1) throw new Error(`there are ${this.runs.size} runs`);
    return [...this.runs.values()][0]!;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const url = new URL(request.url!, this.uri);
    const method = url.pathname.replace("/api/2.0/mlflow/", "");
    const body = (chunks.length > 0 ? JSON.parse(Buffer.concat(chunks).toString()) : Object.fromEntries(url.searchParams)) as Body;
    this.requests.push({ method, authorization: request.headers.authorization, body });
    const mischief = this.mischief(method, this.requests.length);
    if (mischief === "hang") return;
    if (typeof mischief === "string") return void response.writeHead(404, { "content-type": "text/html" }).end(mischief);
    if (mischief !== null) return void response.writeHead(mischief).end("trouble");
    const [status, answer] = this.#do(method, body);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
  }

  #do(method: string, body: Body): [status: number, answer: object] {
    const missing = (what: string): [number, object] => [404, { error_code: "RESOURCE_DOES_NOT_EXIST", message: `no ${what}` }];
    if (method === "experiments/get-by-name") {
      const { experiment_name: name } = body as unknown as { experiment_name: string };
      const id = this.experiments.get(name);
      return id === undefined ? missing("experiment") : [200, { experiment: { experiment_id: id } }];
    }
    if (method === "experiments/create") {
      if (this.experiments.has(body.name)) return [400, { error_code: "RESOURCE_ALREADY_EXISTS", message: "is there" }];
      this.experiments.set(body.name, `${this.experiments.size}`);
      return [200, { experiment_id: this.experiments.get(body.name) }];
    }
    if (method === "runs/create") {
      const id = `run${this.runs.size}`;
      this.runs.set(id, {
        experiment: body.experiment_id, name: body.run_name, status: "RUNNING", endTime: null, deleted: false, params: new Map(), metrics: [],
        tags: Object.fromEntries(body.tags!.map(({ key, value }) => [key, value])),
      });
      return [200, { run: { info: { run_id: id }, data: {} } }];
    }
    const run = this.runs.get(body.run_id);
    if (run === undefined) return missing("run");
    if (method === "runs/get") {
      const params = [...run.params].map(([key, value]) => ({ key, value }));
      return [200, { run: { info: { run_id: body.run_id, lifecycle_stage: run.deleted ? "deleted" : "active" }, data: { params } } }];
    }
    if (method === "runs/update") {
      Object.assign(run, { status: body.status, endTime: body.end_time ?? null });
      return [200, {}];
    }
    if (method !== "runs/log-batch") return missing("method");
    const { params = [], metrics = [] } = body;
    const refused = params.length > 100 || metrics.length > 1000 || params.some(({ key, value }) => key.length > 250 || value.length > 500 || (run.params.get(key) ?? value) !== value);
    if (refused) return [400, { error_code: "INVALID_PARAMETER_VALUE", message: "too much, too long or another value" }];
    for (const { key, value } of params) run.params.set(key, value);
    run.metrics.push(...metrics);
    return [200, {}];
  }
}
