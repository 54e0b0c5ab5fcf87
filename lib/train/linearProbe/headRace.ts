import { toStateDict } from "../../checkpoint/index.js";
import type { Tensor } from "../../torch/index.js";
import type { FeatureMatrix } from "./featureMatrix.js";
import type { LinearHead, LinearHeads } from "./linearHeads.js";
import { ResumeError } from "../runs/resumable.js";

/** How a classifier of a sweep does. */
export interface HeadResult {
  /** Learning rate at the start, scaled with the batch size. */
  lr: number;
  /** Percent, after the last epoch; null before the first. */
  acc1: number | null;
  acc5: number | null;
  /** Mean cross entropy on the validation images. */
  loss: number | null;
  /** Highest acc@1 after any epoch, in percent. */
  bestAcc1: number;
  /** The epoch after which that was, counted from 0. */
  bestEpoch: number | null;
  /** Training it has failed: its learning rate is too high. */
  diverged: boolean;
}

/** Where all classifiers' states lie in a checkpoint, beside upstream's entries, which have the leader's. */
export const HEADS_KEY = "moco_v3_heads";

interface SavedHead {
  lr: unknown;
  best_acc1: unknown;
  best_epoch: unknown;
  diverged: unknown;
  state_dict: unknown;
  optimizer: unknown;
}

/** Which of several classifiers is ahead. */
export class HeadRace {
  /** The classifier that had the highest acc@1 after the last epoch; the first one before. */
  leader: LinearHead;
  readonly results: HeadResult[];

  constructor(private readonly heads: LinearHeads) {
    this.leader = heads.heads[0]!;
    this.results = heads.heads.map(({ lr }) => ({ lr, acc1: null, acc5: null, loss: null, bestAcc1: 0, bestEpoch: null, diverged: false }));
  }

  /**
   * Scores every classifier after an epoch; the figures of the new leader.
   *
   * @param sums of numbers over all processes, each of which has its own images. Default: there are no others
   */
  evaluate(
    epoch: number, { features, labels }: FeatureMatrix, sums: (numbers: number[]) => number[] = (own) => own,
  ): { acc1: number; acc5: number; loss: number; images: number } {
    const own = this.heads.score(features, labels).flatMap(({ correct1, correct5, loss }) => [correct1, correct5, loss]);
    const [images, ...all] = sums([labels.length, ...own]) as [number, ...number[]];
    const found = this.heads.heads.map((head, k) => {
      const [correct1, correct5, loss] = all.slice(3 * k, 3 * k + 3) as [number, number, number];
      if (!Number.isFinite(loss)) head.diverged = true;
      return { acc1: (100 * correct1) / images, acc5: (100 * correct5) / images, loss: loss / images, images };
    });
    found.forEach(({ acc1, acc5, loss }, k) => {
      const result = this.results[k]!;
      const { diverged } = this.heads.heads[k]!;
      Object.assign(result, { acc1, acc5, loss: diverged ? null : loss, diverged });
      if (acc1 > result.bestAcc1) Object.assign(result, { bestAcc1: acc1, bestEpoch: epoch });
    });
    const ahead = found.reduce((best, { acc1 }, k) => (acc1 > found[best]!.acc1 ? k : best), 0);
    this.leader = this.heads.heads[ahead]!;
    return found[ahead]!;
  }

  /** For a checkpoint. Its tensors are the classifiers' own, as in the entries of upstream, with which the file shares them. */
  state(): { leader: number; heads: SavedHead[] } {
    const heads = this.heads.heads.map(({ lr, linear, optimizer, diverged }, k): SavedHead => {
      const { bestAcc1, bestEpoch } = this.results[k]!;
      return { lr, best_acc1: bestAcc1, best_epoch: bestEpoch, diverged, state_dict: linear.stateDict(), optimizer: optimizer.stateDict() };
    });
    return { leader: this.heads.heads.indexOf(this.leader), heads };
  }

  /**
   * Takes over what `state` gave, after the leader has its own from upstream's entries.
   *
   * @returns what a user should know, in words
   * @throws ResumeError where the file has other classifiers
   */
  restore(path: string, value: unknown): string[] {
    const { heads } = this.heads;
    const saved = fieldsOf(value);
    const list = Array.isArray(saved.heads) ? (saved.heads as SavedHead[]) : null;
    if (heads.length === 1 && list?.length !== 1) {
      return list === null ? [] : [`${path} is of a sweep of ${list.length} learning rates; only its best classifier goes on`];
    }
    const rates = list?.map(({ lr }) => Number(lr)) ?? [];
    if (list === null || rates.length !== heads.length || (heads.length > 1 && rates.some((lr, k) => lr !== heads[k]!.lr))) {
      const found = list === null ? "one classifier" : `classifiers of the learning rates ${rates.join(", ")} (scaled)`;
      throw new ResumeError(
        `${path} has ${found}, and this sweep trains ${heads.map(({ lr }) => lr).join(", ")}; give the same sweep, or begin without --resume`,
      );
    }
    list.forEach((each, k) => {
      const head = heads[k]!;
      const { state_dict: state, optimizer, diverged, best_acc1: best, best_epoch: epoch } = each;
      head.linear.loadStateDict(toStateDict(state, `${HEADS_KEY}.heads[${k}].state_dict`) as Map<string, Tensor>);
      head.optimizer.loadStateDict(optimizer);
      head.diverged = diverged === true;
      Object.assign(this.results[k]!, { bestAcc1: Number(best), bestEpoch: epoch === null ? null : Number(epoch), diverged: head.diverged });
    });
    this.leader = heads[Number(saved.leader)] ?? heads[0]!;
    return [];
  }
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
