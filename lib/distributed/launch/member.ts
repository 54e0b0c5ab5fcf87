import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { exitCodeOf } from "./exitCodes.js";
import { Link } from "./link.js";
import { PROTOCOL, type CoordinatorMessage, type Generation, type MemberMessage } from "./messages.js";
import { Workers, type WorkerEnd } from "./workers.js";

export interface MemberOptions {
  node: number;
  processes: number;
  /** Where machine 0's launcher is. */
  address: string;
  port: number;
  /** How often a lost machine 0 may come back. */
  maxRestarts: number;
  silenceMs: number;
  gatherMs: number;
  /** How long processes may take, after another one has failed, to notice it by themselves and say so. */
  byItselfMs: number;
  /** How long a process has between SIGTERM and SIGKILL. */
  graceMs: number;
  /** Exit code of a process that noticed that another one had failed. */
  victimCode: number;
  start(generation: Generation, onEnd: (end: WorkerEnd) => void): Workers;
  log(line: string): void;
}

const RETRY_MS = 300;

/** One machine's part of a launch: it starts and ends this machine's processes as machine 0 says. */
export class Member {
  #link: Link<CoordinatorMessage, MemberMessage> | null = null;
  #workers: Workers | null = null;
  #losses = 0;
  #interrupted: NodeJS.Signals | null = null;
  #settle!: (code: number) => void;
  /** The exit code of the launch. */
  readonly outcome = new Promise<number>((resolve) => (this.#settle = resolve));

  constructor(private readonly options: MemberOptions) {}

  /** Connects to machine 0, which may start later than this one. */
  async join(): Promise<void> {
    const { address, port, gatherMs, node, processes, silenceMs } = this.options;
    const until = performance.now() + gatherMs;
    for (;;) {
      const socket = connect({ host: address, port });
      const problem = await new Promise<Error | null>((resolve) => {
        const timer = setTimeout(() => resolve(new Error("no answer")), silenceMs);
        socket.once("connect", () => { clearTimeout(timer); resolve(null); });
        socket.once("error", (error) => { clearTimeout(timer); resolve(error); });
      });
      if (problem === null) {
        socket.removeAllListeners("error");
        this.#link = new Link(socket, silenceMs, { onMessage: (message) => this.#hear(message), onLost: (reason) => this.#lost(reason) });
        this.#link.send({ type: "join", protocol: PROTOCOL, node, processes });
        return;
      }
      socket.destroy();
      if (this.#interrupted !== null) return this.#settle(exitCodeOf(this.#interrupted));
      if (performance.now() > until) {
        const remedy = "start moco launch with --node-rank 0 there, and let the firewall pass the port";
        this.options.log(`machine 0 cannot be reached at ${address}:${port} (${problem.message}); ${remedy}`);
        return this.#settle(1);
      }
      await sleep(RETRY_MS);
    }
  }

  /** The user or the scheduler wants the end: the processes save what they have, and nothing is started again. */
  interrupt(signal: NodeJS.Signals): void {
    this.#interrupted = signal;
    this.#workers?.signal(signal);
    this.#link?.send({ type: "interrupted", signal });
  }

  /** Leaves no process behind, whatever state the launch is in. */
  kill(): void {
    this.#workers?.kill();
  }

  #hear(message: CoordinatorMessage): void {
    if (message.type === "start") void this.#start(message.generation);
    else if (message.type === "stop") void this.#stop();
    else if (message.type === "over") {
      if (message.reason !== null) this.options.log(message.reason);
      this.#link?.close();
      this.#link = null;
      void this.#stop().then(() => this.#settle(message.code));
    }
  }

  async #start(generation: Generation): Promise<void> {
    let wellDone = true;
    const { node, victimCode } = this.options;
    const workers = this.options.start(generation, ({ rank, code, signal }) => {
      if (code === 0) return;
      wellDone = false;
      this.#link?.send({ type: "failed", generation: generation.number, failure: { rank, node, code, signal, victim: code === victimCode } });
    });
    this.#workers = workers;
    await workers.ended;
    if (this.#workers === workers) this.#workers = null;
    this.#link?.send({ type: "ended", generation: generation.number, wellDone });
  }

  async #stop(): Promise<void> {
    const { byItselfMs, graceMs } = this.options;
    await this.#workers?.end(byItselfMs, graceMs);
  }

  #lost(reason: string): void {
    this.#link = null;
    this.options.log(`machine 0 is lost: ${reason}`);
    void this.#stop().then(() => {
      if (this.#interrupted !== null || this.#losses >= this.options.maxRestarts) return this.#settle(1);
      this.#losses++;
      return this.join();
    });
  }
}
