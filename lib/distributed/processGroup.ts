import { readConfig } from "../config.js";
import { cudaAddon, CudaAddonError } from "../native/cuda.js";
import { native } from "../native.js";
import * as torch from "../torch/index.js";
import { Tensor } from "../torch/index.js";
import { chooseAddress } from "./networkAddress.js";
import { checkPlacement, PlacementError, type Backend, type Placement } from "./placement.js";
import { meet } from "./rendezvous.js";
import { RendezvousError } from "./errors.js";
import { Store } from "./store.js";
import { Watchdog } from "./watchdog.js";

/** What becomes of the values of all processes. */
export type Reduction = "sum" | "mean" | "max" | "min";

/** Limits and checks of a {@link ProcessGroup}. */
export interface JoinOptions {
  /** How long a collective may take before it fails. Default: 10 minutes. */
  timeoutMs?: number;
  /** How long to wait for the other ranks. Default: 5 minutes, but at most `timeoutMs`. */
  joinTimeoutMs?: number;
  /** What makes the backend `"nccl"`. Default: the CUDA addon. */
  cudaBackend?: unknown;
  /** Without a sign of life for so long another process counts as dead; 0: nobody watches. Default: `MOCO_WATCHDOG_SECONDS`, or 30. */
  watchdogSeconds?: number;
}

/**
 * The processes that train together, as one of them sees it: collectives, which all ranks must call in the same order, and a store.
 *
 * A collective holds the thread until it is done; on tensors of a GPU it is put on the current stream, and the thread goes on.
 * All throw {@link CollectiveError} when a peer dies or hangs, or the network fails; the group is of no use then.
 *
 * @example
 * using group = await ProcessGroup.join(placement);
 * group.allReduce_(loss, "mean");
 */
export class ProcessGroup {
  readonly rank: number;
  readonly size: number;
  readonly backend: Backend;
  readonly placement: Placement;
  readonly store: Store;
  /** Watches over the others, and is watched by them. Null where nobody watches. */
  readonly watchdog: Watchdog | null;
  readonly #check = readConfig().checkCollectives;
  #handle: number | null;

  private constructor(placement: Placement, store: Store, handle: number, watchdogSeconds: number | undefined) {
    this.rank = placement.rank;
    this.size = placement.worldSize;
    this.backend = placement.backend;
    this.placement = placement;
    this.store = store;
    this.#handle = handle;
    this.watchdog = Watchdog.start(placement, watchdogSeconds);
  }

  /**
   * Meets the other ranks. Resolves once all are connected.
   *
   * @throws {PlacementError} for a placement that cannot be
   * @throws {RendezvousError} that names the ranks which did not come, those that disagree, or the address that cannot be reached
   */
  static async join(placement: Placement, options: JoinOptions = {}): Promise<ProcessGroup> {
    const { timeoutMs = 600_000, joinTimeoutMs = Math.min(300_000, timeoutMs) } = options;
    checkPlacement(placement);
    const { rank, worldSize, masterAddress, masterPort, externalStore, generation, backend } = placement;
    const cudaBackend = backend === "nccl" ? (options.cudaBackend ?? ncclFactory()) : null;
    const end = Date.now() + joinTimeoutMs;
    const address = await chooseAddress(placement);
    using root = await Store.connect({
      host: masterAddress, port: masterPort, serve: rank === 0 && !externalStore, timeoutMs: joinTimeoutMs,
    });
    const store = root.under(`moco/${generation}`);
    try {
      await meet(store, placement, Math.max(1, end - Date.now()));
      try {
        const connectTimeoutMs = Math.max(1000, end - Date.now());
        const handle = await native.createGroup(store.handle(), rank, worldSize, connectTimeoutMs, timeoutMs, address, cudaBackend);
        return new ProcessGroup(placement, store, handle, options.watchdogSeconds);
      } catch (error) {
        throw new RendezvousError(
          `rank ${rank} of ${worldSize} met the others at ${masterAddress}:${masterPort}, but could not connect to all of them from ${address}: ` +
            `MOCO_SOCKET_IFNAME names another network interface, and no firewall may be between the machines (${(error as Error).message.split("\n")[0]})`,
          [], { cause: error },
        );
      }
    } catch (error) {
      store.close();
      if (error instanceof RendezvousError) throw error;
      throw new RendezvousError(
        `rank ${rank} of ${worldSize} lost the store at ${masterAddress}:${masterPort} while the ranks met: ` +
          `${externalStore ? "the launcher that hosts it" : "rank 0, which hosts it,"} has ended; look at its messages (${(error as Error).message.split("\n")[0]})`,
        [], { cause: error },
      );
    }
  }

  /**
   * Makes `tensor` the sum (or mean, largest or smallest value) over all ranks, in place. Types: float16, bfloat16, float32, float64, uint8,
   * int8, int32 and int64; the mean is for floating-point ones.
   *
   * @param what names it in messages
   */
  allReduce_(tensor: Tensor, op: Reduction = "sum", what = "all-reduce"): Tensor {
    if (op === "mean" && !tensor.dtype.includes("float")) {
      throw new TypeError(`allReduce_: the mean of a tensor of ${tensor.dtype} is not whole; reduce with "sum" and divide`);
    }
    native.allReduce(this.#live(), tensor.liveSlot("allReduce_"), op === "mean" ? "sum" : op, what, this.#check);
    if (op === "mean") torch.noGrad(() => tensor.div_(this.size));
    return tensor;
  }

  /**
   * The tensors of all ranks, one after the other by rank: `[N, ...]` to `[size * N, ...]`, for a tensor of no dimensions `[size]`. Any type.
   * Outside the graph.
   *
   * @throws Error when shapes or types differ between ranks; on a GPU only with `MOCO_CHECK_COLLECTIVES=1`, as it has to wait for that
   */
  allGather(tensor: Tensor, what = "all-gather"): Tensor {
    const check = this.#check || tensor.device === "cpu";
    return new Tensor(native.allGather(this.#live(), tensor.liveSlot("allGather"), what, check));
  }

  /** {@link allGather} of keys, so that a process group is a `KeyGatherer`. */
  gather(keys: Tensor): Tensor {
    return this.allGather(keys, "keys");
  }

  /** Copies the tensors of rank `from` into those of all others, in place. Any type. */
  broadcast_(tensors: readonly Tensor[], from = 0, what = "broadcast"): void {
    if (!Number.isInteger(from) || from < 0 || from >= this.size) {
      throw new RangeError(`broadcast_: from is ${from}, and there are ranks 0 to ${this.size - 1}`);
    }
    native.broadcast(this.#live(), tensors.map((tensor) => tensor.liveSlot("broadcast_")), from, what, this.#check);
  }

  /** The values of all ranks, by rank. Values are what JSON can tell; their sizes may differ. */
  exchange<T>(value: T, what = "exchange"): T[] {
    return torch.scope(() => {
      const mine = Buffer.from(JSON.stringify(value ?? null));
      const lengths = this.allGather(torch.tensor(new Int32Array([mine.length])), what).data() as Int32Array;
      const longest = Math.max(...lengths);
      const padded = Buffer.alloc(longest);
      mine.copy(padded);
      const all = this.allGather(torch.tensor(new Uint8Array(padded)), what).data() as Uint8Array;
      return Array.from(lengths, (length, rank) => {
        const bytes = all.subarray(rank * longest, rank * longest + length);
        return JSON.parse(Buffer.from(bytes).toString()) as T;
      });
    });
  }

  /** Returns once all ranks have called it. */
  barrier(what = "barrier"): void {
    native.barrier(this.#live(), what);
  }

  /** Number in the addon's table. Internal. */
  handle(): number {
    return this.#live();
  }

  /** Leaves the group: peers that still wait for this rank get an error. Calling it again does nothing. */
  close(): void {
    if (this.#handle === null) return;
    this.watchdog?.dispose();
    native.closeGroup(this.#handle);
    this.#handle = null;
    this.store.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #live(): number {
    if (this.#handle === null) throw new Error("the process group is closed; join again");
    return this.#handle;
  }
}

/** @throws PlacementError where the CUDA addon cannot be had */
function ncclFactory(): unknown {
  try {
    return cudaAddon().ncclFactory();
  } catch (error) {
    if (!(error instanceof CudaAddonError)) throw error;
    throw new PlacementError(`backend is "nccl", which needs the addon for CUDA; without a GPU use "gloo". ${error.message}`, { cause: error });
  }
}
