import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { exitCodeOf } from "./exitCodes.js";
import { Link } from "./link.js";
import { PROTOCOL, tellFailure, type CoordinatorMessage, type Failure, type MemberMessage } from "./messages.js";

/** The store of a training, as the launcher that has it uses it. */
export interface LaunchStore {
  readonly port: number;
  /** Tells the processes of a generation which of them is at fault, unless they know already. */
  accuse(generation: string, rank: number, what: string): void;
  /** What they know: the rank at fault and what became of it, or null. */
  verdict(generation: string): { rank: number; what: string } | null;
  close(): void;
}

export interface CoordinatorOptions {
  nodes: number;
  maxRestarts: number;
  /** Silence after which a machine counts as lost, in milliseconds. */
  silenceMs: number;
  /** How long all machines are waited for, at the beginning and before a restart. */
  gatherMs: number;
  /** Names this training. */
  run: string;
  store: LaunchStore;
  /** Words of the command line for all processes of the n-th start (0: the first). */
  words(start: number): string[];
  log(line: string): void;
}

interface Member {
  link: Link<MemberMessage, CoordinatorMessage>;
  processes: number;
  /** Of the running generation: it takes part, and has not ended. */
  running: boolean;
}

const EXIT_FAILED = 1;

/**
 * Lets the launchers of all machines start, stop and restart their processes together. It lives in machine 0's launcher, which is a machine like
 * the others besides.
 *
 * A start is a generation with a number of its own. A failure on any machine ends the generation on all, and the next one begins only when no
 * process of it is left on any machine that is heard of; processes on a machine that is cut off cannot disturb it, since their
 * generation's keys in the store are others.
 */
export class Coordinator {
  readonly #members = new Map<number, Member>();
  readonly #server: Server;
  #phase: "gathering" | "running" | "stopping" | "over" = "gathering";
  #generation = -1;
  #restarts = 0;
  #failure: Failure | string | null = null;
  #interrupted = false;
  #gathering: NodeJS.Timeout | undefined;

  constructor(private readonly options: CoordinatorOptions) {
    this.#server = createServer((socket) => this.#greet(socket));
    this.#gather();
  }

  /** @returns the port that it listens on */
  async listen(port: number, host?: string): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ port, host }, resolve);
    });
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    clearTimeout(this.#gathering);
    this.#server.close();
    for (const { link } of this.#members.values()) link.close();
  }

  #greet(socket: Socket): void {
    let node: number | null = null;
    const link: Member["link"] = new Link(socket, this.options.silenceMs, {
      onMessage: (message) => {
        if (message.type === "join" && node === null) node = this.#join(link, message);
        else if (node !== null && this.#members.get(node)?.link === link) this.#hear(node, message);
      },
      onLost: (reason) => {
        if (node !== null && this.#members.get(node)?.link === link) this.#lose(node, reason);
      },
    });
  }

  #join(link: Member["link"], { protocol, node, processes }: Extract<MemberMessage, { type: "join" }>): number | null {
    const refuse = (reason: string): null => {
      link.send({ type: "over", code: EXIT_FAILED, reason });
      link.close();
      return null;
    };
    if (protocol !== PROTOCOL) return refuse("the machines run different versions of moco-v3; install the same one on all");
    if (!Number.isInteger(node) || node < 0 || node >= this.options.nodes) {
      return refuse(`--node-rank is ${node}, but --nnodes is ${this.options.nodes} on machine 0; number the machines from 0`);
    }
    const before = this.#members.get(node);
    if (before !== undefined) {
      // Its launcher was started anew, and the old connection has not broken yet, as after a loss of power.
      before.link.close();
      this.#lose(node, "its launcher was started again");
    }
    this.#members.set(node, { link, processes, running: false });
    if (this.options.nodes > 1) this.options.log(`machine ${node} is here, with ${processes} ${processes === 1 ? "process" : "processes"}`);
    this.#startIfComplete();
    return node;
  }

  #hear(node: number, message: MemberMessage): void {
    const member = this.#members.get(node)!;
    if (message.type === "interrupted") {
      this.#interrupted = true;
      if (this.#phase === "gathering") this.#end(exitCodeOf(message.signal), `${message.signal} before all machines were here`);
      return;
    }
    if (!("generation" in message) || message.generation !== this.#generation) return;
    if (message.type === "failed") this.#fail(message.failure);
    if (message.type === "ended") {
      member.running = false;
      if (!message.wellDone && this.#phase === "running") this.#fail(`the processes of machine ${node} failed`);
      this.#goOnIfEnded();
    }
  }

  #lose(node: number, reason: string): void {
    this.#members.delete(node);
    if (this.#phase === "over") return;
    const what = `machine ${node} is lost: ${reason}`;
    if (this.#phase === "running") this.#fail(what);
    else this.options.log(what);
    this.#goOnIfEnded();
  }

  #fail(failure: Failure | string): void {
    const known = this.#failure;
    if (known === null || (typeof known !== "string" && known.victim && typeof failure !== "string" && !failure.victim)) {
      this.#failure = failure;
      if (typeof failure !== "string" && !failure.victim) this.options.store.accuse(this.#key, failure.rank, tellFailure(failure));
    }
    if (this.#phase !== "running") return;
    this.#phase = "stopping";
    this.#tellAll({ type: "stop", generation: this.#generation });
  }

  /** When nobody runs any more, the training is done, or begins again, or has failed. */
  #goOnIfEnded(): void {
    if ((this.#phase !== "running" && this.#phase !== "stopping") || [...this.#members.values()].some(({ running }) => running)) return;
    if (this.#failure === null) return this.#end(0, null);
    const { reason, code } = this.#judge(this.#failure);
    const { maxRestarts } = this.options;
    if (this.#interrupted) return this.#end(code, `${reason} while the training was being stopped`);
    if (this.#restarts >= maxRestarts) {
      const tried = maxRestarts === 0 ? "" : ` (after ${maxRestarts} ${maxRestarts === 1 ? "restart" : "restarts"}, as --max-restarts allows)`;
      return this.#end(code, `${reason}${tried}`);
    }
    this.#restarts++;
    this.options.log(`${reason}; all begin again from the last step saved (restart ${this.#restarts} of ${maxRestarts})`);
    this.#failure = null;
    this.#phase = "gathering";
    this.#gather();
    this.#startIfComplete();
  }

  #judge(failure: Failure | string): { reason: string; code: number } {
    if (typeof failure === "string") return { reason: failure, code: EXIT_FAILED };
    const { code, signal, victim } = failure;
    const verdict = victim ? this.options.store.verdict(this.#key) : null;
    const reason = verdict?.what ?? tellFailure(failure);
    return { reason, code: signal === null ? code ?? EXIT_FAILED : exitCodeOf(signal) };
  }

  #gather(): void {
    clearTimeout(this.#gathering);
    this.#gathering = setTimeout(() => {
      const missing = Array.from({ length: this.options.nodes }, (_, node) => node).filter((node) => !this.#members.has(node));
      const names = `${missing.length === 1 ? "machine" : "machines"} ${missing.join(", ")}`;
      this.#end(EXIT_FAILED, `${names} did not come within ${Math.round(this.options.gatherMs / 1000)} s; start moco launch there, with its --node-rank`);
    }, this.options.gatherMs);
  }

  #startIfComplete(): void {
    if (this.#phase !== "gathering" || this.#members.size < this.options.nodes) return;
    clearTimeout(this.#gathering);
    this.#phase = "running";
    this.#generation++;
    const members = [...this.#members].sort(([a], [b]) => a - b).map(([, member]) => member);
    const worldSize = members.reduce((sum, { processes }) => sum + processes, 0);
    const words = this.options.words(this.#generation);
    let firstRank = 0;
    for (const member of members) {
      member.running = true;
      const { run, store } = this.options;
      member.link.send({ type: "start", generation: { number: this.#generation, run, worldSize, firstRank, storePort: store.port, words } });
      firstRank += member.processes;
    }
  }

  /** The generation as the processes' keys in the store have it. */
  get #key(): string {
    return generationKey(this.options.run, this.#generation);
  }

  #end(code: number, reason: string | null): void {
    this.#phase = "over";
    clearTimeout(this.#gathering);
    this.#tellAll({ type: "over", code, reason });
  }

  #tellAll(message: CoordinatorMessage): void {
    for (const { link } of this.#members.values()) link.send(message);
  }
}

/** What the keys of a generation's processes begin with, as torchrun's variables tell it to them. */
function generationKey(run: string, generation: number): string {
  return `${run}/${generation}`;
}
