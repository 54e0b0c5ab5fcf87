import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../lib/setup/packageRoot.js";
import { median } from "../bench/result.js";

/** What was measured, as the tables of docs/scaling.md use it. */
export interface Constants {
  /** Images a second and core on the GPU's machine: 82 kB JPEGs. */
  imagesPerCoreSecond: number;
  imageBytes: number;
  /** That a checkpoint in the background holds the training up: ViT-B. */
  saveStallSeconds: number;
  /** Until it is on the disk. */
  saveSeconds: number;
  scale: ScaleFigures;
}

export interface ScaleFigures {
  orders: { images: number; seconds: number; bytes: number }[];
  shards: { shards: number; images: number; seconds: number; bytes: number; fileBytes: number }[];
  headers: { imagesPerSecond: number; indexBytesPerImage: number; contentsSeconds: number };
  stores: { clients: number; connectSeconds: number; meetSeconds: number }[];
}

/** Interruptions of a GPU and second, published: 419 unexpected ones in 54 days on 16,384 H100 ("The Llama 3 Herd of Models", 2024, section 3.3.4). */
export const INTERRUPTIONS_PER_GPU_SECOND = 419 / (54 * 86400 * 16384);

export function readConstants(): Constants {
  const read = <T>(name: string): T => JSON.parse(readFileSync(join(packageRoot, "benchmarks/results", `${name}.json`), "utf8")) as T;
  const { raw: { loaderAlone }, machine: { cores } } = read<{ machine: { cores: number }; raw: { loaderAlone: Record<string, number> } }>("pretrain-gpu");
  const { raw: { stall } } = read<{ raw: { stall: { following: number[]; written: number[] } } }>("checkpoint");
  return {
    imagesPerCoreSecond: loaderAlone["augment cpu, copied to the GPU"]! / cores, imageBytes: 82_000,
    saveStallSeconds: median(stall.following), saveSeconds: median(stall.written), scale: read<{ raw: ScaleFigures }>("scale").raw,
  };
}
