/** MLflow's own tracking server, of the Python that MOCO_TEST_MLFLOW names. */
import { spawn, type ChildProcess } from "node:child_process";
import { createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { testMlflow } from "./python.js";

export class MlflowServer {
  #process: ChildProcess | null = null;
  #said = "";

  private constructor(private readonly folder: string, private readonly port: number) {}

  /** @param folder what it keeps, and its home */
  static async start(folder: string): Promise<MlflowServer> {
    const server = new MlflowServer(folder, await freePort());
    await server.start();
    return server;
  }

  get uri(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const words = ["server", "--host", "127.0.0.1", "--port", `${this.port}`, "--backend-store-uri", `${this.folder}/store`, "--workers", "1"];
    // A group of its own: the server starts workers.
    const child = spawn(testMlflow!, ["-m", "mlflow", ...words], {
      cwd: this.folder, detached: true, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, HOME: this.folder, MLFLOW_DISABLE_TELEMETRY: "true" },
    });
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (this.#said += chunk.toString()));
    this.#process = child;
    for (let i = 0; i < 600; i++) {
      if (child.exitCode !== null) break;
      if (await fetch(`${this.uri}/health`).then(({ ok }) => ok, () => false)) return;
      await delay(100);
    }
    throw new Error(`MLflow did not start:\n${this.#said}`);
  }

  async get<T>(path: string): Promise<T> {
    return await (await fetch(`${this.uri}/api/2.0/mlflow/${path}`)).json() as T;
  }

  /** At once, as when its machine is lost. */
  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null) return;
    const gone = new Promise((resolve) => child.on("close", resolve));
    process.kill(-child.pid!, "SIGKILL");
    await gone;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
