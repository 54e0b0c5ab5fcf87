import { BenchmarkError } from "./peer.js";
import { describeRun, median, type BenchmarkOptions, type BenchmarkResult } from "./result.js";
import type { GpuSetup, Machine, Side } from "./stepGpuProtocol.js";
import { measureRow, type Row } from "./stepGpuRow.js";
import { KeptRows } from "./stepGpuRows.js";
import { Sides } from "./stepGpuSides.js";

/** Multiplications and additions of one image's step: both views, forward and backward in one encoder, forward in the other; without heads. */
const gflopPerImage: Readonly<Record<string, number>> = { vit_small: 73.4, vit_base: 280.4, vit_conv_small: 73.5, resnet50: 65.4 };

/** What is measured: architectures and batches; those of `compiled` beside `torch.compile` too, which takes minutes for each. */
export interface Extent {
  batches: Readonly<Record<string, readonly number[]>>;
  compiled: Readonly<Record<string, readonly number[]>>;
}

const BATCHES = [32, 128, 256, 512, 1024];
const FULL: Extent = {
  batches: { vit_small: BATCHES, vit_base: BATCHES, vit_conv_small: BATCHES, resnet50: BATCHES },
  compiled: { vit_small: [32, 256], vit_base: [256], vit_conv_small: [256], resnet50: [256] },
};
const QUICK: Extent = { batches: { vit_small: [32, 256], resnet50: [128] }, compiled: {} };

/** How the benchmark is tried on a machine without a GPU, with tiny networks. */
export interface Trial {
  device: string;
  extent: Extent;
  imageSize: number;
  mlp: number;
  secondsAtOnce: number;
}
const ON_GPU = { device: "cuda:0", imageSize: 224, mlp: 4096, secondsAtOnce: 0.4 };

const WARMUP = 8; // three steps as they are, three with a recorded first part, one whose second is recorded, one of launches
/** The batch at which ours is measured in other precisions too, and a step's parts are timed. */
const COMPARED = 256;
/** How long `torch.compile` may search for kernels, in seconds. */
const COMPILE_SECONDS = 600;
const SETUP_SECONDS = 240;

const MEANINGS = {
  GraphOverEager: "x our own images/s launched kernel by kernel, as CUDA graphs",
  OverUpstream: "x upstream's images/s (its classes, float16)",
  OverTuned: "x the images/s of the same recipe written for speed in PyTorch, in our precision, eager",
  OverCompiled: "x the same with torch.compile, max-autotune",
  ChannelsLastOverNchw: "x our own images/s with images and weights channel by channel, PyTorch's default",
  TunedChannelsLastOverNchw: "x the same in PyTorch",
  Mfu: "of the matrix product's FLOP/s",
  PeakMemory: "x upstream's peak of allocated memory",
  PeakMemoryOverTuned: "x the peak of the recipe written for speed",
  PeakMemoryOverCompiled: "x the same with torch.compile",
};

/**
 * A whole training step on one GPU, with synthetic views of 224 pixels: ours, in bfloat16 for ViTs and float16 where there is batch
 * normalisation over images (the other precision and deterministic kernels beside it), kernel by kernel and as CUDA graphs, against upstream as
 * its training loop runs it, and against the same recipe written for speed in PyTorch, eager and, for some, compiled. A row's sides take turns,
 * on the same libtorch. Each row is kept as it is measured, in `dir`, and is not measured again: the benchmark may be done in parts.
 */
export async function benchmarkStepGpu(options: BenchmarkOptions, trial: Trial | null = null): Promise<BenchmarkResult> {
  const { threads, rounds, upstream } = options;
  const { device, imageSize, mlp, secondsAtOnce } = trial ?? ON_GPU;
  const extent = narrowed(trial?.extent ?? (options.quick ? QUICK : FULL), options);
  const wanted = options.sides?.split(",");
  using sides = new Sides(options, device);
  const machine = await sides.ask<Machine>("ours", { do: "machine" });
  say(`${machine.gpu}, ${machine.gpuMemoryGiB} GiB; bfloat16 matrix product at ${machine.matrixProductTflops.toFixed(2)} TFLOP/s`);
  const rows = new KeptRows(options.dir ?? "build/step-gpu", machine);
  say(`rows are kept in ${rows.folder}; those that are there are not measured again`);
  for (const [arch, batches] of Object.entries(extent.batches)) {
    for (const batch of batches) {
      const all: Side[] = ["ours", "oursGraph", "tuned", ...(upstream ? ["upstream" as const] : [])];
      if (batch === COMPARED) all.push("oursOtherPrecision", "oursDeterministic");
      if (arch.includes("resnet")) all.push("oursNchw", "tunedNchw");
      if (extent.compiled[arch]?.includes(batch)) all.push("compiled");
      await measureRow(sides.ask, {
        arch, batch, rounds, secondsAtOnce, sides: all.filter((side) => wanted?.includes(side) ?? true), withProfile: batch === COMPARED && !options.quick,
        setupOf: (side) => setupOf(side, { arch, batch, imageSize, mlp, device }),
        patience: (side) => (side === "compiled" ? COMPILE_SECONDS : SETUP_SECONDS),
      }, rows.get(arch, batch), (row) => rows.set(arch, batch, row), say);
    }
  }
  const description = describeRun("step-gpu", options.python, { imageSize, threads, rounds, gflopPerImage });
  return { ...description, machine: { ...description.machine, ...machine }, ...figures(rows, machine) };
}

/** The ratios of all rows that are kept. */
function figures(rows: KeptRows, machine: Machine): Pick<BenchmarkResult, "ratios" | "meanings" | "raw"> {
  const ratios: Record<string, number> = {};
  const meanings: Record<string, string> = {};
  const raw: Record<string, Row> = {};
  for (const { arch, batch, row } of rows.all()) {
    const figure = `${arch}_${batch}`;
    raw[figure] = row;
    const note = (kind: keyof typeof MEANINGS, value: number): void => {
      if (!Number.isFinite(value)) return; // one of the two sides is not there
      ratios[`${figure}${kind}`] = value;
      meanings[`${figure}${kind}`] = MEANINGS[kind];
    };
    const speed = (side: Side): number => batch / median(row[side]?.seconds ?? [NaN]);
    const peak = (side: Side): number => row[side]?.peakBytes ?? NaN;
    note("GraphOverEager", speed("oursGraph") / speed("ours"));
    note("OverUpstream", speed("ours") / speed("upstream"));
    note("PeakMemory", peak("ours") / peak("upstream"));
    note("OverTuned", speed("ours") / speed("tuned"));
    note("PeakMemoryOverTuned", peak("ours") / peak("tuned"));
    note("OverCompiled", speed("ours") / speed("compiled"));
    note("PeakMemoryOverCompiled", peak("ours") / peak("compiled"));
    note("ChannelsLastOverNchw", speed("ours") / speed("oursNchw"));
    note("TunedChannelsLastOverNchw", speed("tuned") / speed("tunedNchw"));
    note("Mfu", (speed("ours") * (gflopPerImage[arch] ?? NaN)) / 1000 / machine.matrixProductTflops);
  }
  return { ratios, meanings, raw };
}

function setupOf(
  side: Side, { arch, batch, imageSize, mlp, device }: { arch: string; batch: number; imageSize: number; mlp: number; device: string },
): GpuSetup {
  const isVit = arch.includes("vit");
  const mixesImages = !isVit || arch.includes("conv"); // by batch normalisation, which cuDNN has in float16
  const [usual, other] = device === "cpu" ? (["bf16", "fp32"] as const) : mixesImages ? (["fp16", "bf16"] as const) : (["bf16", "fp16"] as const);
  return {
    arch, batch, imageSize, mlp, optimizer: isVit ? "adamw" : "lars", stop_grad: isVit && !mixesImages, flags: {}, warmup: WARMUP,
    precision: side === "oursOtherPrecision" ? other : usual, deterministic: side === "oursDeterministic",
    graph: side === "oursGraph", compile: side === "compiled" ? "max-autotune" : null, nchw: side.endsWith("Nchw"),
  };
}

/** The extent, or the part of it that `only` names: `vit_small`, or `vit_small:256`. */
function narrowed({ batches, compiled }: Extent, { only, compile = true }: BenchmarkOptions): Extent {
  if (only === undefined) return { batches, compiled: compile ? compiled : {} };
  const chosen: Record<string, number[]> = {};
  for (const [arch, batch] of only.split(",").map((each) => each.split(":") as [string, string | undefined])) {
    if (!(arch in batches)) throw new BenchmarkError(`--only: there is no ${arch} here; give some of ${Object.keys(batches).join(", ")}`);
    if (batch !== undefined && !/^[1-9]\d*$/.test(batch)) throw new BenchmarkError(`--only: "${batch}" is no batch size; write it as in ${arch}:256`);
    (chosen[arch] ??= []).push(...(batch === undefined ? batches[arch]! : [Number(batch)]));
  }
  return { batches: chosen, compiled: compile ? { ...compiled, ...(only.includes(":") ? chosen : {}) } : {} };
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
