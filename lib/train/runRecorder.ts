import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { BadImage } from "../data/index.js";
import type { MoCo } from "../moco/index.js";
import { RUN_LOG, RunLog, type EndEntry, type RunEntry, type StepEntry } from "../report/index.js";
import { packageRoot } from "../setup/packageRoot.js";
import * as torch from "../torch/index.js";
import { checkpointName, removeStepCheckpoints, removeUnfinished, type Position } from "./checkpointFiles.js";
import type { PretrainHooks } from "./pretrain.js";
import type { Recipe } from "./pretrainOptions.js";
import { saveTrainingState, type RunFacts, type Trainee } from "./trainingState.js";

/** What a step tells about itself; the recorder adds the times. */
export type StepFacts = Omit<StepEntry, "kind" | "imagesPerSecond" | "stepMs">;

/** How a run begins. */
export interface RunStart {
  recipe: Recipe;
  facts: RunFacts;
  start: Position;
  resumedFrom: string | null;
  /** Unreadable images that the resumed run has told of already. */
  knownBad: number;
}

/** Keeps what a run leaves behind, checkpoints and log in its folder, and tells whoever listens. */
export class RunRecorder {
  /** Path of the last checkpoint written, or null. */
  checkpoint: string | null = null;
  #log: RunLog | null = null;
  #started = performance.now();
  #stepEnded = performance.now();
  #badImages = 0;

  /** @param folder null to write nothing */
  constructor(private readonly folder: string | null, private readonly hooks: PretrainHooks) {}

  /** Seconds since `start`. */
  get seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }

  /** Opens the log, in a folder that is made if need be, and tells the listener. The first step's time counts from here. */
  async start({ recipe, facts, start, resumedFrom, knownBad }: RunStart, moco: MoCo): Promise<void> {
    const { arch, seed, images, stepsPerEpoch } = facts;
    const entry: RunEntry = {
      kind: "run",
      started: new Date().toISOString(),
      options: { ...recipe, encoder: arch, seed },
      versions: { "moco-v3": packageVersion(), node: process.versions.node, libtorch: torch.version().libtorch },
      device: recipe.device,
      images,
      epochs: recipe.epochs,
      stepsPerEpoch,
      firstStep: start.epoch * stepsPerEpoch + start.step,
      resumedFrom,
    };
    if (this.folder !== null) {
      mkdirSync(this.folder, { recursive: true });
      await removeUnfinished(this.folder);
      this.#log = new RunLog(join(this.folder, RUN_LOG));
      this.#log.write(entry);
    }
    this.#badImages = knownBad;
    await this.hooks.onStart?.(entry, moco);
    this.#started = this.#stepEnded = performance.now();
  }

  /** @param images in the step's batch */
  step(facts: StepFacts, images: number, bad: readonly BadImage[]): void {
    const now = performance.now();
    const stepMs = now - this.#stepEnded;
    this.#stepEnded = now;
    const entry: StepEntry = { kind: "step", ...facts, imagesPerSecond: (1000 * images) / stepMs, stepMs };
    this.#log?.write(entry);
    this.hooks.onStep?.(entry);
    for (const image of bad.slice(this.#badImages)) {
      this.#log?.write({ kind: "badImage", path: image.name, reason: image.reason });
      this.hooks.onBadImage?.(image);
    }
    this.#badImages = bad.length;
  }

  /** Writes a checkpoint, where the run has a folder, and removes those that it makes superfluous. */
  async save(trainee: Trainee, position: Position, facts: RunFacts, bad: readonly BadImage[]): Promise<void> {
    if (this.folder === null) return;
    const name = checkpointName(position);
    const path = join(this.folder, name);
    await saveTrainingState(path, trainee, position, facts, bad.map(({ index }) => index));
    await removeStepCheckpoints(this.folder, name);
    this.checkpoint = path;
    this.#log?.write({ kind: "checkpoint", file: name, steps: position.epoch * facts.stepsPerEpoch + position.step });
    this.hooks.onCheckpoint?.(path);
  }

  end(reason: EndEntry["reason"], message?: string): void {
    this.#log?.write({ kind: "end", reason, ...(message === undefined ? {} : { message }), seconds: this.seconds });
  }

  [Symbol.dispose](): void {
    this.#log?.close();
  }
}

function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string };
  return version;
}
