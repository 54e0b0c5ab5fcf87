import { mkdirSync, writeFileSync } from "node:fs";
import { arch, cpus, platform, release, totalmem } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../../lib/setup/packageRoot.js";
import { version as libtorchVersion } from "../../lib/torch/index.js";
import type { CampaignOptions, CampaignResult } from "./campaign.js";
import type { ImageCampaignOptions, ImageCampaignResult } from "./imageCampaign.js";
import { SANITIZERS } from "./imageDriver.js";
import type { MemoryFigure } from "./memoryCampaign.js";
import { sorted } from "./tally.js";

function machine(): Record<string, unknown> {
  const { libtorch, capability } = libtorchVersion();
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: {
      cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length, memoryGiB: Math.round(totalmem() / 2 ** 30),
      system: `${platform()} ${arch()} ${release()}`, capability,
    },
    versions: { node: process.versions.node, libtorch },
  };
}

function save(name: string, record: Record<string, unknown>): string {
  const folder = join(packageRoot, "benchmarks", "results");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${name}.json`);
  writeFileSync(path, `${JSON.stringify(record, null, 2)}\n`);
  return path;
}

/** Writes `benchmarks/results/fuzz-memory.json`; gives its path. */
export function saveMemoryRecord(command: string, figures: readonly MemoryFigure[]): string {
  const worst = figures.reduce((most, { rise, limit }) => Math.max(most, rise / limit), 0);
  return save("fuzz-memory", {
    name: "fuzz-memory", ...machine(), command,
    limit: "2 x size of the file + 64 MiB, for the rise of a fresh process's resident memory",
    worstRatio: Math.round(worst * 1000) / 1000,
    figures: figures.map((figure) => ({ ...figure, seconds: Math.round(figure.seconds * 100) / 100 })),
  });
}

/** Writes `benchmarks/results/fuzz-images.json`; gives its path. */
export function saveImageRecord(command: string, library: string, options: ImageCampaignOptions, result: ImageCampaignResult): string {
  const { inputs, depths, kinds } = result.tally;
  return save("fuzz-images", {
    name: "fuzz-images", ...machine(), library, sanitizers: SANITIZERS, command,
    seed: options.seed, from: options.from, workers: options.workers,
    inputs, seconds: Math.round(result.seconds), inputsPerSecond: Math.round(inputs / result.seconds),
    outcomes: sorted(depths),
    mutations: sorted(result.strategies),
    reasons: sorted(kinds),
    findings: result.findings,
  });
}

/** Writes `benchmarks/results/fuzz-TARGET.json`; gives its path. */
export function saveRecord(command: string, options: CampaignOptions, result: CampaignResult): string {
  const { inputs, depths, kinds } = result.tally;
  const share = (count: number | undefined): number => Math.round(((count ?? 0) / Math.max(1, inputs)) * 10_000) / 10_000;
  return save(`fuzz-${options.target}`, {
    name: `fuzz-${options.target}`,
    ...machine(),
    command,
    seed: options.seed,
    from: options.from,
    workers: options.workers,
    inputs,
    seconds: Math.round(result.seconds),
    inputsPerSecond: Math.round(inputs / result.seconds),
    values: share(depths["value"]),
    depths: sorted(depths),
    outcomes: sorted(kinds),
    memory: {
      limit: "2 x size of the file + 64 MiB",
      // Of the process during a batch of inputs, garbage of all of them included, against the limit of the batch's smallest one.
      worstRatio: Math.round(result.memoryRatio * 1000) / 1000,
    },
    findings: result.findings,
  });
}
