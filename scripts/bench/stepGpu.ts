import { BenchmarkError } from "./peer.js";
import { describeRun, median, type BenchmarkOptions, type BenchmarkResult } from "./result.js";
import { stepSides } from "./presentations/trainingSteps.js";
import { pairedRatio } from "./spread.js";
import { checkSides } from "./stepGpuCheck.js";
import type { GpuSetup, Machine, Side } from "./stepGpuProtocol.js";
import { measureRow, type Row } from "./stepGpuRow.js";
import { KeptRows } from "./stepGpuRows.js";
import { Sides } from "./stepGpuSides.js";

/** Multiplications and additions of one image's step: both views, forward and backward in one encoder, forward in the other; without heads. */
const gflopPerImage: Readonly<Record<string, number>> = { vit_small: 73.4, vit_base: 280.4, vit_conv_small: 73.5, resnet50: 65.4 };

/** What is measured: batches of architectures, those first that say most, as a lent GPU may be gone before the last. */
export type Extent = Readonly<Record<string, readonly number[]>>;

const BATCHES = [256, 32, 128, 512, 1024];
const FULL: Extent = { vit_small: BATCHES, vit_base: BATCHES, vit_conv_small: BATCHES, resnet50: BATCHES };
const QUICK: Extent = { vit_small: [256, 32], resnet50: [128] };

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
/** One of each program, and what needs more than its program does. */
const CHECKED = ["ours", "oursGraph", "tuned", "upstream", "compiled"] as const;

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
 * its training loop runs it, and against the same recipe written for speed in PyTorch, eager and, after all of that, compiled. A row's sides take
 * turns, on the same libtorch. Each row is kept as it is measured, in `dir`, and is not measured again: the benchmark may be done in parts.
 */
export async function benchmarkStepGpu(options: BenchmarkOptions, trial: Trial | null = null): Promise<BenchmarkResult> {
  const { threads, rounds, upstream, quick } = options;
  const { device, imageSize, mlp, secondsAtOnce } = trial ?? ON_GPU;
  const chosen = chosenRows(trial?.extent ?? (quick ? QUICK : FULL), options);
  const wanted = options.sides?.split(",");
  const unknown = wanted?.find((side) => !(side in stepSides));
  if (unknown !== undefined) throw new BenchmarkError(`--sides: there is no side "${unknown}"; give some of ${Object.keys(stepSides).join(", ")}`);
  const compile = (options.compile ?? true) && (!quick || wanted?.includes("compiled") === true);
  const sidesOf = (arch: string, batch: number): Side[] => {
    const all: Side[] = ["ours", "oursGraph", "tuned", ...(upstream ? ["upstream" as const] : [])];
    if (batch === COMPARED) all.push("oursOtherPrecision", "oursDeterministic");
    if (arch.includes("resnet")) all.push("oursNchw", "tunedNchw");
    if (compile) all.push("compiled");
    return all.filter((side) => wanted?.includes(side) ?? true);
  };
  using sides = new Sides(options, device);
  const programs = new Set(chosen.flatMap(([arch, batch]) => sidesOf(arch, batch)).filter((side) => (CHECKED as readonly Side[]).includes(side)));
  const machine = await checkSides(sides.ask, [...programs.add("ours")]);
  say(`${machine.gpu}, ${machine.gpuMemoryGiB} GiB; bfloat16 matrix product at ${machine.matrixProductTflops.toFixed(2)} TFLOP/s`);
  const rows = new KeptRows(options.dir ?? "build/step-gpu", machine);
  say(`rows are kept in ${rows.folder}; those that are there are not measured again`);
  const description = describeRun("step-gpu", options.python, { imageSize, threads, rounds, gflopPerImage });
  const result = (): BenchmarkResult => ({ ...description, machine: { ...description.machine, ...machine }, ...figures(rows, machine) });
  // What is compiled takes ten minutes a row, and comes when all else is there.
  for (const compiled of [false, true]) {
    for (const [arch, batch] of chosen) {
      const row = rows.get(arch, batch);
      const before = row.ours;
      await measureRow(sides.ask, {
        arch, batch, rounds, secondsAtOnce, sides: sidesOf(arch, batch).filter((side) => (side === "compiled") === compiled),
        withProfile: batch === COMPARED && !quick,
        setupOf: (side) => setupOf(side, { arch, batch, imageSize, mlp, device }),
        patience: (side) => (side === "compiled" ? COMPILE_SECONDS : SETUP_SECONDS),
      }, row, () => {
        if (row.ours !== before) row.matrixProductTflops = machine.matrixProductTflops;
        rows.set(arch, batch, row);
        rows.setResult(result());
      }, say);
    }
  }
  return result();
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
    const { compiled } = row;
    note("OverCompiled", compiled?.oursBeside ? pairedRatio(compiled.seconds, compiled.oursBeside) : speed("ours") / speed("compiled"));
    note("PeakMemoryOverCompiled", peak("ours") / peak("compiled"));
    note("ChannelsLastOverNchw", speed("ours") / speed("oursNchw"));
    note("TunedChannelsLastOverNchw", speed("tuned") / speed("tunedNchw"));
    note("Mfu", (speed("ours") * (gflopPerImage[arch] ?? NaN)) / 1000 / (row.matrixProductTflops ?? machine.matrixProductTflops));
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

/** Architectures and batches in the order in which they are measured: those of the extent, or what `only` names: `vit_small`, or `vit_small:256`. */
function chosenRows(extent: Extent, { only }: BenchmarkOptions): [arch: string, batch: number][] {
  if (only === undefined) {
    const batches = [...new Set(Object.values(extent).flat())];
    return batches.flatMap((batch) => Object.keys(extent).flatMap((arch): [string, number][] => (extent[arch]!.includes(batch) ? [[arch, batch]] : [])));
  }
  return only.split(",").flatMap((each): [string, number][] => {
    const [arch, batch] = each.split(":") as [string, string | undefined];
    if (!(arch in extent)) throw new BenchmarkError(`--only: there is no ${arch} here; give some of ${Object.keys(extent).join(", ")}`);
    if (batch !== undefined && !/^[1-9]\d*$/.test(batch)) throw new BenchmarkError(`--only: "${batch}" is no batch size; write it as in ${arch}:256`);
    return (batch === undefined ? extent[arch]! : [Number(batch)]).map((size) => [arch, size]);
  });
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
