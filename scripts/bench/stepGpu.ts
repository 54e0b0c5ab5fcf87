import type { Precision } from "../../lib/train/options.js";
import type { BackendFlags } from "../../lib/torch/index.js";
import { BenchmarkError, peersOf, type Peer } from "./peer.js";
import { describeRun, median, type BenchmarkOptions, type BenchmarkResult } from "./result.js";

/** One training that is measured. The names are also those of the Python side's arguments. */
export interface GpuSetup {
  arch: string;
  batch: number;
  imageSize: number;
  optimizer: "adamw" | "lars";
  stop_grad: boolean;
  warmup: number;
  /** Upstream's is float16 in any case. */
  precision: Precision;
  /** Ours only. */
  deterministic: boolean;
  /** Ours only: forward and backward pass as one CUDA graph, as `pretrain` has it with `cudaGraph`. */
  graph: boolean;
  flags: BackendFlags;
  /** PyTorch's only: the mode of `torch.compile`, or null to run eagerly. */
  compile: string | null;
  /** PyTorch's only: a ResNet's images and weights channel by channel, PyTorch's default, not pixel by pixel. */
  nchw: boolean;
}

/** What a peer is asked. */
export type GpuRequest =
  | ({ do: "setup" } & GpuSetup) | { do: "measure"; steps: number } | { do: "profile"; steps: number } | { do: "drop" } | { do: "machine" };

interface Measured {
  seconds: number;
  loss: number;
  peakBytes: number;
  reservedBytes: number;
  outOfMemory?: boolean;
}

interface Machine {
  gpu: string;
  gpuMemoryGiB: number;
  matrixProductTflops: number;
}

/** Multiplications and additions of one image's step: both views, forward and backward in one encoder, forward in the other; without heads. */
const gflopPerImage: Readonly<Record<string, number>> = { vit_small: 73.4, vit_base: 280.4, vit_conv_small: 73.5, resnet50: 65.4 };

/** Architectures and batches; those of `compiled` are measured beside `torch.compile` too, which takes minutes for each. */
const FULL = {
  batches: { vit_small: [32, 128, 256, 512, 1024], vit_base: [32, 128, 256, 512], vit_conv_small: [256], resnet50: [32, 128, 256] },
  compiled: { vit_small: [256], vit_base: [256] },
} satisfies Extent;
const QUICK = { batches: { vit_small: [32, 256], resnet50: [128] }, compiled: {} } satisfies Extent;

interface Extent {
  batches: Readonly<Record<string, readonly number[]>>;
  compiled: Readonly<Record<string, readonly number[]>>;
}

const imageSize = 224;
/** A measurement lasts about so long, in seconds; single steps of a small batch would drown in the clock's noise. */
const SECONDS_AT_ONCE = 0.4;
const WARMUP = 5; // three steps as they are, one that is recorded, one that is a launch
/** The batch at which ours is measured in other precisions too, and a step's parts are timed. */
const COMPARED = 256;

type Side = "ours" | "oursGraph" | "oursOtherPrecision" | "oursDeterministic" | "upstream" | "tuned" | "tunedNchw" | "compiled";

const MEANINGS = {
  GraphOverEager: "x our own images/s launched kernel by kernel, as one CUDA graph",
  OverUpstream: "x upstream's images/s (its classes, float16)",
  OverTuned: "x the images/s of the same recipe written for speed in PyTorch, in our precision, eager",
  OverNchw: "x the same with images and weights channel by channel, PyTorch's default",
  OverCompiled: "x the same with torch.compile, max-autotune",
  Mfu: "of the matrix product's FLOP/s",
  PeakMemory: "x upstream's peak of allocated memory",
};

/**
 * A whole training step on one GPU, with synthetic views of 224 pixels: ours, in bfloat16 for ViTs and float16 for ResNets, whose batch
 * normalisation is faster so (the other precision and deterministic kernels beside it), against upstream as its training loop runs it, and
 * against the same recipe written for speed in PyTorch, eager and, for some, compiled. All in one run, in turn, on the same libtorch.
 */
export async function benchmarkStepGpu(options: BenchmarkOptions): Promise<BenchmarkResult> {
  const { threads, rounds } = options;
  const extent: Extent = narrowed(options.quick ? QUICK : FULL, options);
  const start = peersOf("step-gpu", "python", options);
  const python = (side: string): Peer => start.python({ args: [JSON.stringify({ side, upstream: options.upstream ?? "" })], threads });
  const [ours, graphed] = [start.ours({ threads }), start.ours({ threads })];
  const tuned = python("tuned");
  const upstream = options.upstream === undefined ? null : python("upstream");
  const peers: Record<Side, Peer | null> = { ours, oursGraph: graphed, oursOtherPrecision: ours, oursDeterministic: ours, tuned, tunedNchw: tuned, compiled: tuned, upstream };
  const ratios: Record<string, number> = {};
  const meanings: Record<string, string> = {};
  const raw: Record<string, unknown> = {};
  const note = (figure: string, kind: keyof typeof MEANINGS, value: number): void => {
    ratios[`${figure}${kind}`] = value;
    meanings[`${figure}${kind}`] = MEANINGS[kind];
  };
  try {
    const machine = await ask<Machine>(tuned, { do: "machine" });
    say(`${machine.gpu}, ${machine.gpuMemoryGiB} GiB; bfloat16 matrix product at ${machine.matrixProductTflops.toFixed(0)} TFLOP/s`);
    for (const [arch, batches] of Object.entries(extent.batches)) {
      for (const batch of batches) {
        const sides: Side[] = ["ours", "oursGraph", "tuned", ...(upstream ? ["upstream" as const] : [])];
        if (batch === COMPARED) sides.push("oursOtherPrecision", "oursDeterministic");
        if (arch.startsWith("resnet")) sides.push("tunedNchw");
        if (extent.compiled[arch]?.includes(batch)) sides.push("compiled");
        const measured = await measure(peers, sides, { arch, batch }, rounds, batch === COMPARED && !options.quick);
        const figure = `${arch}_${batch}`;
        raw[figure] = measured;
        const perSecond = (side: Side): number => batch / median(measured[side]?.seconds ?? [NaN]);
        const over = (side: Side): number => perSecond("ours") / perSecond(side);
        if (!measured.ours) continue;
        if (measured.oursGraph) note(figure, "GraphOverEager", over("oursGraph"));
        if (measured.upstream) {
          note(figure, "OverUpstream", over("upstream"));
          note(figure, "PeakMemory", measured.ours.peakBytes / measured.upstream.peakBytes);
        }
        if (measured.tuned) note(figure, "OverTuned", over("tuned"));
        if (measured.tunedNchw) note(figure, "OverNchw", over("tunedNchw"));
        if (measured.compiled) note(figure, "OverCompiled", over("compiled"));
        note(figure, "Mfu", (perSecond("ours") * (gflopPerImage[arch] ?? NaN)) / 1000 / machine.matrixProductTflops);
      }
    }
    const description = describeRun("step-gpu", options.python, { imageSize, threads, rounds, gflopPerImage });
    return { ...description, machine: { ...description.machine, ...machine }, ratios, meanings, raw };
  } finally {
    for (const peer of new Set(Object.values(peers))) peer?.close();
  }
}

interface SideResult {
  /** Of a step, one for each round. */
  seconds: number[];
  imagesPerSecond: number;
  peakBytes: number;
  reservedBytes: number;
  setupSeconds: number;
}

type Measurements = Partial<Record<Side, SideResult>> & { profile?: Record<string, unknown> };

/** Measures sides in turn. A side that finds no memory beside the others is measured alone after them, or left out. */
async function measure(
  peers: Record<Side, Peer | null>, sides: readonly Side[], what: { arch: string; batch: number }, rounds: number, withProfile: boolean,
): Promise<Measurements> {
  const results: Measurements = {};
  const profile: Record<string, unknown> = {};
  // A process holds one training: first those of processes of their own in turn, then the others.
  const groups = inTurns(sides);
  for (let together = groups.shift(); together; together = groups.shift()) {
    const tooLarge = (side: Side): void => {
      const alone = together!.length === 1;
      say(`${what.arch} ${what.batch} ${side}: out of memory${alone ? "" : ", beside the others; later alone"}`);
      if (!alone) groups.push([side]);
    };
    const steps = new Map<Side, number>();
    for (const side of together) {
      const peer = peers[side]!;
      const ready = await ask<{ seconds: number; outOfMemory?: boolean }>(peer, { do: "setup", ...setupOf(side, what), warmup: WARMUP });
      if (ready.outOfMemory) {
        tooLarge(side);
        continue;
      }
      const probe = await ask<Measured>(peer, { do: "measure", steps: 2 });
      if (probe.outOfMemory) {
        tooLarge(side);
        continue;
      }
      steps.set(side, Math.max(2, Math.ceil(SECONDS_AT_ONCE / probe.seconds)));
      results[side] = { seconds: [], imagesPerSecond: 0, peakBytes: 0, reservedBytes: 0, setupSeconds: ready.seconds };
    }
    for (let round = 0; round < rounds; round++) {
      for (const side of together) {
        const result = results[side];
        if (!result) continue;
        const { seconds, peakBytes, reservedBytes } = await ask<Measured>(peers[side]!, { do: "measure", steps: steps.get(side)! });
        result.seconds.push(seconds);
        Object.assign(result, { peakBytes, reservedBytes });
      }
    }
    for (const side of together) {
      const result = results[side];
      if (result) {
        result.imagesPerSecond = what.batch / median(result.seconds);
        const [least, most] = [Math.min(...result.seconds), Math.max(...result.seconds)].map((each) => (1000 * each).toFixed(1));
        const gigabytes = (result.peakBytes / 1e9).toFixed(1);
        say(`${what.arch} ${what.batch} ${side}: ${result.imagesPerSecond.toFixed(0)} images/s, ${least} to ${most} ms, ${gigabytes} GB`);
        if (withProfile && (side === "ours" || side === "tuned")) profile[side] = await ask(peers[side]!, { do: "profile", steps: 5 });
      }
      await ask(peers[side]!, { do: "drop" });
    }
  }
  return { ...results, ...(withProfile ? { profile } : {}) };
}

/** Groups of sides whose trainings live in different processes, ours in each group for comparison in turn. */
function inTurns(sides: readonly Side[]): Side[][] {
  const groups = [["ours", "oursGraph", "tuned", "upstream"], ["oursOtherPrecision"], ["oursDeterministic"], ["tunedNchw"], ["compiled"]] satisfies Side[][];
  return groups.map((group) => group.filter((side) => sides.includes(side))).filter((group) => group.length > 0);
}

function setupOf(side: Side, { arch, batch }: { arch: string; batch: number }): Omit<GpuSetup, "warmup"> {
  const isVit = arch.startsWith("vit");
  return {
    arch, batch, imageSize, optimizer: isVit ? "adamw" : "lars", stop_grad: isVit && !arch.includes("conv"), flags: {},
    precision: isVit === (side === "oursOtherPrecision") ? "fp16" : "bf16", deterministic: side === "oursDeterministic", graph: side === "oursGraph",
    compile: side === "compiled" ? "max-autotune" : null, nchw: side === "tunedNchw",
  };
}

/** The extent, or the part of it that `only` names: `vit_small`, or `vit_small:256`. */
function narrowed({ batches, compiled }: Extent, { only, compile = true }: BenchmarkOptions): Extent {
  if (only === undefined) return { batches, compiled: compile ? compiled : {} };
  const wanted = only.split(",").map((each) => each.split(":") as [string, string | undefined]);
  const chosen: Record<string, number[]> = {};
  for (const [arch, batch] of wanted) {
    if (!(arch in gflopPerImage)) throw new BenchmarkError(`--only: there is no ${arch} here; give some of ${Object.keys(gflopPerImage).join(", ")}`);
    (chosen[arch] ??= []).push(...(batch === undefined ? batches[arch] ?? [] : [Number(batch)]));
  }
  return { batches: chosen, compiled: compile ? { ...compiled, ...(only.includes(":") ? chosen : {}) } : {} };
}

function ask<T>(peer: Peer, request: GpuRequest): Promise<T> {
  return peer.ask<T>(JSON.stringify(request));
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
