import type { BadImage } from "../../data/index.js";
import { GradientAverager, synchronizeBatchNorm, type ProcessGroup } from "../../distributed/index.js";
import { native } from "../../native.js";
import type { AnyModule } from "../../nn/index.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import type { RunFacts, Trainee } from "../runs/trainingState.js";
import { SharedBadImages } from "./sharedBadImages.js";
import { takeOver } from "./takeOver.js";

/** Another process of the training could not do its part, or was told to do another one. */
export class RankError extends Error {
  override readonly name = "RankError";
}

/** What {@link Ranks} has to know about the run. */
export interface RanksOptions {
  maxBad: number;
  /** A wish to stop, of this process. */
  signal?: AbortSignal;
}

/**
 * A training among those of other processes: what has to be the same in all is agreed on here, so that all do the same thing at the same step.
 * Without a group, all of it is this process's own.
 *
 * The first rank reads checkpoints, writes and judges; the others get from it what it knows, so no other machine needs its files.
 */
export class Ranks {
  readonly rank: number;
  readonly size: number;
  #averager: GradientAverager | null = null;
  #bad: SharedBadImages | null = null;
  /** Of the step that is being computed, over all ranks: [share that wants to stop, bad images found, the step's numbers...]. */
  #said: Tensor | null = null;
  #stop = false;
  #waits = 0;

  constructor(private readonly group: ProcessGroup | undefined, private readonly options: RanksOptions) {
    this.rank = group?.rank ?? 0;
    this.size = group?.size ?? 1;
  }

  /** Whether this is the rank that reads, writes and judges for all. */
  get leads(): boolean {
    return this.rank === 0;
  }

  /** The wish to stop of a process that trains alone, which may end a wait at once; among others it is heard at the end of a step. */
  get ownStop(): AbortSignal | undefined {
    return this.group === undefined ? this.options.signal : undefined;
  }

  /** Whether any rank wants to stop, as of the last step. */
  get stopWanted(): boolean {
    return this.group === undefined ? this.options.signal?.aborted === true : this.#stop;
  }

  /**
   * Does the work of each rank, and fails on all of them where it fails on one: nobody waits for a rank that has gone.
   *
   * @throws the work's error; RankError on the others
   */
  async together<T>(work: () => T | Promise<T>): Promise<T> {
    if (this.group === undefined) return work();
    const outcome = await Promise.resolve().then(work).then((value) => ({ value }), (error: unknown) => ({ error }));
    const failures = this.group.exchange("error" in outcome ? (outcome.error as Error).message : null, "readiness");
    if ("error" in outcome) throw outcome.error;
    const failed = failures.findIndex((failure: string | null) => failure !== null);
    if (failed >= 0) throw new RankError(`rank ${failed} of ${this.size} could not go on, so none does: ${failures[failed]}`);
    return outcome.value;
  }

  /** Work of the first rank alone; null on the others, which wait. Errors as those of {@link together}. */
  lead<T>(work: () => T | Promise<T>): Promise<T | null> {
    return this.together(() => (this.leads ? work() : null));
  }

  /**
   * Long work of the first rank, such as kNN: the others wait for as long as it takes, and not in a collective operation, which has a limit.
   * It must not fail.
   */
  async waitForLead(work: () => Promise<void>): Promise<void> {
    if (this.group === undefined) return work();
    const key = `lead/${this.#waits++}`;
    const { store } = this.group;
    if (this.leads) {
      await work();
      store.set(key, "done");
    } else {
      await store.wait([key], Infinity); // without rank 0 there is no store, and this fails
    }
  }

  /** A value, as JSON, that the first rank has found, for all. */
  shared<T>(value: () => T): T {
    return this.group === undefined ? value() : (this.group.exchange(this.leads ? value() : null, "start")[0] as T);
  }

  /**
   * Begins a run that all ranks do alike.
   *
   * @param knownBad images that an earlier run could not read
   * @throws RankError where a rank has other images or options
   */
  begin(facts: RunFacts, knownBad: readonly BadImage[]): void {
    if (this.group === undefined) return;
    this.#requireSame(facts);
    this.#bad = new SharedBadImages(this.group, knownBad, { images: facts.images, maxBad: this.options.maxBad });
  }

  /**
   * Makes one training of those of all ranks: the first rank's weights, moments and loss scale for all, BatchNorm over the whole batch, keys
   * from everywhere, averaged gradients.
   */
  join(trainee: Trainee): void {
    if (this.group === undefined) return;
    takeOver(trainee, this.group);
    trainee.moco.gatherer = this.group;
    this.joinNetwork(trainee.moco);
  }

  /** The same of a network that all ranks have read and built alike: BatchNorm over the whole batch, averaged gradients. */
  joinNetwork(network: AnyModule): void {
    if (this.group === undefined) return;
    synchronizeBatchNorm(network, this.group);
    this.#averager = new GradientAverager(network.parameters().filter(({ requiresGrad }) => requiresGrad), this.group);
  }

  /** Call before `forward`: messages about collectives name the step. */
  beginStep(step: number): void {
    if (this.group !== undefined) native.setStep(step);
  }

  /** Call between `forward` and `backward`: gradients are averaged over the ranks while `backward` goes on. */
  prepare(): void {
    this.#averager?.prepare();
  }

  /** Call after several backward passes without {@link prepare}, whose gradients have added up: averages them over the ranks. */
  average(): void {
    this.#averager?.average();
  }

  /**
   * Tells the others of this rank's step: what it has found in its part of the batch, and whether it wants to stop.
   *
   * @param numbers such as the loss, of any shapes
   * @returns their means over the ranks
   */
  agree(numbers: readonly Tensor[], bad: readonly BadImage[]): Tensor[] {
    if (this.group === undefined) return [...numbers];
    const said = torch.noGrad(() => torch.scope(() => {
      const words = torch.tensor([this.options.signal?.aborted ? 1 : 0, this.#bad!.news(bad)], undefined, { dtype: "float64" });
      const device = numbers[0]?.device ?? "cpu";
      return torch.keep(torch.cat([words.to(device), ...numbers.map((each) => each.detach().to("float64").reshape([-1]))]));
    }));
    this.group.allReduce_(said, "mean", "loss");
    this.#said = said;
    let at = 2;
    return numbers.map(({ shape }) => {
      const length = shape.reduce((product, size) => product * size, 1);
      at += length;
      return said.narrow(0, at - length, length).reshape([...shape]);
    });
  }

  /**
   * Call once the step's numbers have arrived.
   *
   * @param bad images that this rank could not read so far
   * @returns those of all ranks
   * @throws TooManyBadImagesError on all ranks at the same step
   */
  settle(bad: BadImage[]): BadImage[] {
    if (this.group === undefined || this.#said === null) return bad;
    const [stop, news] = Array.from(this.#said.data(), Number) as [number, number];
    this.#said.dispose();
    this.#said = null;
    this.#stop = stop > 0;
    return this.#bad!.settle(bad, news > 0);
  }

  /** The unreadable images of all ranks, as of the last step; without other ranks, this one's. */
  bad(own: BadImage[]): BadImage[] {
    return this.#bad?.all ?? own;
  }

  /** {@link agree} and {@link settle} at once, where there is no loss to tell. */
  talk(bad: readonly BadImage[]): void {
    if (this.group === undefined) return;
    this.agree([], bad);
    this.settle([...bad]);
  }

  /**
   * The rows of all ranks' tensors [N, ...] as [N * ranks, ...], those of each rank's first row first: the order that one process has, where
   * each rank takes every so many of its images. The caller disposes of it.
   *
   * @param most so many of them at most
   */
  rowsOfAll(rows: Tensor, most = Infinity): Tensor {
    return torch.noGrad(() => torch.keep(torch.scope(() => {
      if (this.group === undefined) return rows.clone();
      const all = this.group.allGather(rows.contiguous(), "features");
      return all.view([this.size, ...rows.shape]).transpose(0, 1).flatten(0, 1).narrow(0, 0, Math.min(most, all.shape[0]!)).clone();
    })));
  }

  /** The numbers of all ranks, in the order of {@link rowsOfAll}. */
  numbersOfAll(numbers: readonly number[]): number[] {
    const all = this.listsOfAll(numbers);
    return numbers.flatMap((_, i) => all.map((each) => each[i]!));
  }

  /** The lists of all ranks, one after the other. */
  listOfAll<T>(list: readonly T[]): T[] {
    return this.listsOfAll(list).flat() as T[];
  }

  /** Whether it is so on any rank. */
  any(flag: boolean): boolean {
    return this.group === undefined ? flag : this.group.exchange(flag, "state").includes(true);
  }

  /** Sums over all ranks. */
  sums(numbers: readonly number[]): number[] {
    if (this.group === undefined) return [...numbers];
    const { group } = this;
    return torch.scope(() => group.allReduce_(torch.tensor([...numbers], undefined, { dtype: "float64" }), "sum", "figures").toArray() as number[]);
  }

  private listsOfAll<T>(list: readonly T[]): (readonly T[])[] {
    return this.group === undefined ? [list] : this.group.exchange(list, "lists");
  }

  dispose(): void {
    this.#said?.dispose();
    this.#averager?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #requireSame(facts: RunFacts): void {
    const all = this.group!.exchange(facts, "options");
    const [first] = all as [RunFacts];
    for (const [rank, other] of all.entries()) {
      for (const [name, value] of Object.entries({ ...first, ...first.recipe })) {
        if (name === "recipe") continue;
        const theirs = ({ ...other, ...other.recipe } as Record<string, unknown>)[name];
        if (JSON.stringify(theirs) === JSON.stringify(value)) continue;
        throw new RankError(
          `rank ${rank} has ${name} ${JSON.stringify(theirs)} and rank 0 ${JSON.stringify(value)}; give all ranks the same images and flags`,
        );
      }
    }
  }
}
