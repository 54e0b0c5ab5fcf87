import { checkpointInterval, lostShare, planCluster, type ClusterPlan } from "../../lib/train/planning/clusterPlan.js";
import { collectivesOf } from "../../lib/train/planning/communication.js";
import { gpuTypes } from "../../lib/train/planning/gpuTypes.js";
import type { MemorySetting } from "../../lib/train/planning/memoryPlan.js";
import type { NetworkCost } from "../../lib/train/planning/networkCost.js";
import { costOf } from "../../lib/train/planning/planPretraining.js";
import { LOG_BYTES_PER_STEP } from "../../lib/train/planning/checkpointPlan.js";
import { INTERRUPTIONS_PER_GPU_SECOND, type Constants } from "./constants.js";

const ARCHITECTURES = ["vit_small", "vit_base", "vit_conv_small", "resnet50"] as const;
type Arch = (typeof ARCHITECTURES)[number];
const RANKS = [8, 64, 256, 1024];
const IMAGES = 1e9;
/** Images of a rank that still keep a GPU busy. */
const BUSY = 128;
const IMAGES_PER_SHARD = 10_000;
const RESTART_SECONDS = 300;

const settings: Record<"vit" | "resnet", Pick<MemorySetting, "imageSize" | "precision" | "optimizer">> = {
  vit: { imageSize: [224, 224], precision: "bf16", optimizer: "adamw" },
  resnet: { imageSize: [224, 224], precision: "fp16", optimizer: "lars" },
};

/** The tables of docs/scaling.md by name, as Markdown: nothing on the page that the cost model says is typed by hand. */
export function scalingTables(constants: Constants): Record<string, string> {
  const networks = Object.fromEntries(ARCHITECTURES.map((arch) => [
    arch, costOf({ encoder: arch, imageSize: 224, patchSize: null, stopGradConv1: true, dim: 256, mlpDim: 4096 }),
  ])) as Record<Arch, NetworkCost>;
  const plan = (arch: Arch, ranks: number, batch: number, gpu: keyof typeof gpuTypes = "h200"): ClusterPlan => planCluster({
    cluster: { ranks, gpu: gpuTypes[gpu] }, network: networks[arch], batch, images: IMAGES, epochs: 1, setting: settings[arch === "resnet50" ? "resnet" : "vit"],
    imageBytes: constants.imageBytes, imagesPerCoreSecond: constants.imagesPerCoreSecond,
  });
  return {
    memory: memoryTable(plan),
    fixed: table(["network", "ranks", "images of a rank", ...STEP_COLUMNS], stepRows(plan, () => 4096)),
    growing: table(["network", "ranks", "images of a rank", ...STEP_COLUMNS], stepRows(plan, (ranks) => BUSY * ranks)),
    collectives: collectivesTable(networks),
    gpus: table(
      ["GPU", "images/s of one", "images/s of 1,024", "of it waiting"],
      (Object.keys(gpuTypes) as (keyof typeof gpuTypes)[]).map((gpu) => {
        const [one, all] = [plan("vit_base", 1, BUSY, gpu), plan("vit_base", 1024, 1024 * BUSY, gpu)];
        return [`${gpuTypes[gpu].name} (${gpuTypes[gpu].source})`, count(one.imagesPerSecond), count(all.imagesPerSecond), percent(1 - all.efficiency)];
      }),
    ),
    loading: loadingTable(plan, constants),
    data: dataTable(constants),
    failures: failuresTable(plan, constants),
    first: firstTable(plan, networks, constants),
  };
}

type Planner = (arch: Arch, ranks: number, batch: number) => ClusterPlan;
const STEP_COLUMNS = ["computing, ms", "gradients, ms (not hidden)", "batch norm, ms", "keys, ms", "step, ms", "images/s", "of it waiting"];

function memoryTable(plan: Planner): string {
  const batches = [32, 128, 256, 512];
  const rows = ARCHITECTURES.flatMap((arch) => [8, 1024].map((ranks) => {
    const each = batches.map((batch) => plan(arch, ranks, batch * ranks));
    return [arch, count(ranks), ...each.map(({ gpuBytes }) => gigabytes(gpuBytes)), gigabytes(each[1]!.logitBytes)];
  }));
  return table(["network", "ranks", ...batches.map((batch) => `${batch} images, GB`), "of it logits at 128"], rows);
}

function stepRows(plan: Planner, batchOf: (ranks: number) => number): string[][] {
  return ARCHITECTURES.flatMap((arch) => RANKS.map((ranks) => {
    const { localBatch, computeSeconds, communication, stepSeconds, imagesPerSecond, efficiency } = plan(arch, ranks, batchOf(ranks));
    const { gradients, gradientsExposed, batchNorm, keys } = communication;
    return [
      arch, count(ranks), count(localBatch), milliseconds(computeSeconds), `${milliseconds(gradients)} (${milliseconds(gradientsExposed)})`,
      milliseconds(batchNorm), milliseconds(keys), milliseconds(stepSeconds), count(imagesPerSecond), percent(1 - efficiency),
    ];
  }));
}

function collectivesTable(networks: Record<Arch, NetworkCost>): string {
  return table(
    ["network", "gradients, MB", "messages of them", "gathers of statistics", "sums of their gradients", "gathers of keys", "all"],
    ARCHITECTURES.map((arch) => {
      const { gradientBytes, buckets, normGathers, normReductions, keyGathers } = collectivesOf(networks[arch]);
      return [
        arch, (gradientBytes / 1e6).toFixed(0), String(buckets), String(normGathers), String(normReductions), String(keyGathers),
        String(buckets + normGathers + normReductions + keyGathers),
      ];
    }),
  );
}

function loadingTable(plan: Planner, { imagesPerCoreSecond }: Constants): string {
  const rows = ARCHITECTURES.map((arch) => {
    const { coresPerGpu, nodeReadBytesPerSecond, imagesPerSecond } = plan(arch, 8, 8 * 256);
    return [arch, count(imagesPerSecond), coresPerGpu.toFixed(1), (8 * coresPerGpu).toFixed(0), (nodeReadBytesPerSecond / 1e9).toFixed(2), (8 * nodeReadBytesPerSecond / 1e9).toFixed(0)];
  });
  return table(
    ["network, 256 images a GPU", "images/s of 8 GPUs", `cores for each GPU (${count(imagesPerCoreSecond)} images/s a core)`, "cores of a node", "GB/s of a node", "Gb/s"], rows,
  );
}

function dataTable({ scale }: Constants): string {
  const order = scale.orders.at(-1)!;
  const shards = scale.shards.at(-1)!;
  const { indexBytesPerImage, imagesPerSecond } = scale.headers;
  const rows = [1e8, IMAGES].map((images) => {
    const files = images / IMAGES_PER_SHARD;
    return [
      count(images), gigabytes(4 * images), duration((order.seconds / order.images) * images), gigabytes(32 * images), count(files),
      `${((shards.bytes / shards.shards) * files / 1e6).toFixed(0)} MB`, duration((shards.seconds / shards.shards) * files),
      gigabytes(indexBytesPerImage * images), duration(images / imagesPerSecond),
    ];
  });
  return table([
    "images", "order of an epoch, GB a rank", "drawn in", "names of files in a folder (24 letters), GB a rank", "shards of 10,000", "known shards in memory, a rank", "opened in",
    "index file, GB a node", "first reading of all headers, one process",
  ], rows);
}

function failuresTable(plan: Planner, { saveStallSeconds }: Constants): string {
  const rows = RANKS.map((ranks) => {
    const meanSecondsBetween = 1 / (INTERRUPTIONS_PER_GPU_SECOND * ranks);
    const failures = { meanSecondsBetween, saveSeconds: saveStallSeconds, restartSeconds: RESTART_SECONDS };
    const { seconds, lostShare: least } = checkpointInterval(failures);
    const { epochSeconds, stepSeconds } = plan("vit_base", ranks, BUSY * ranks);
    return [
      count(ranks), duration(meanSecondsBetween), duration(seconds), `${count(Math.round(seconds / stepSeconds / 100) * 100)}steps`, percent(least), duration(epochSeconds),
      percent(Math.min(1, lostShare(failures, epochSeconds))),
    ];
  });
  return table(["GPUs", "between failures", "save every", "as --save-every", "lost so", "an epoch of a billion", "lost with one save an epoch"], rows);
}

/** What breaks first, in the order in which a growing training meets it. */
function firstTable(plan: Planner, networks: Record<Arch, NetworkCost>, { scale, imagesPerCoreSecond }: Constants): string {
  const resnet = plan("resnet50", 64, 64 * BUSY), resnetMost = plan("resnet50", 1024, 1024 * BUSY);
  const [vit, vitMost] = [plan("vit_base", 256, 4096), plan("vit_base", 1024, 4096)];
  const node = plan("vit_small", 8, 2048);
  const order = scale.orders.at(-1)!;
  const { indexBytesPerImage, imagesPerSecond } = scale.headers;
  const shards = scale.shards.at(-1)!;
  const steps = 300 * (IMAGES / 4096);
  const rows = [
    ["a folder of files", "100 M images", `order and names: ${gigabytes(36 * 1e8)} GB on each of a node's 8 ranks, at a billion ${gigabytes(36 * IMAGES)}`, "shards: a rank keeps one object for each"],
    ["cores for loading", "8 GPUs in a node", `ViT-S wants ${(8 * node.coresPerGpu).toFixed(0)} cores (${count(imagesPerCoreSecond)} images/s each)`, "smaller JPEGs (512 pixels), `--augment gpu`"],
    [
      "batch norm over images (ResNet, convolutional stem)", "64 ranks",
      `${collectivesOf(networks.resnet50).normGathers + collectivesOf(networks.resnet50).normReductions} collectives a step, ${milliseconds(resnet.communication.batchNorm)} ms at 64 ranks, ` +
        `${milliseconds(resnetMost.communication.batchNorm)} at 1,024, where computing takes ${milliseconds(resnetMost.computeSeconds)}`,
      "a plain ViT; sums up a tree in place of gathers round a ring; statistics over a node only",
    ],
    ["the batch that still learns well", "256 ranks", "the paper's ViT-B: 72.2 % at 4,096 images, 69.7 % at 6,144", "more epochs and data, not a larger batch: 4,096 to 256 ranks of 16 images"],
    [
      "launches", "256 ranks", `4,096 images over 256 ranks compute ${milliseconds(vit.computeSeconds)} ms, over 1,024 ${milliseconds(vitMost.computeSeconds)}: nothing gained`,
      "fewer ranks; several trainings side by side",
    ],
    [
      "first reading of headers", "100 M images", `${duration(1e8 / imagesPerSecond)} by one process, at a billion ${duration(IMAGES / imagesPerSecond)}; each node has an index of ${gigabytes(indexBytesPerImage * IMAGES)} GB`,
      "`MOCO_CACHE` on a disk that all nodes see, filled once with `moco report augment`; or `pipe:` and `--images`, which need no index",
    ],
    [
      "opening shards", "1 B images, 1,024 ranks", `${count(IMAGES / IMAGES_PER_SHARD)} files looked at by each rank: ${count((1024 * IMAGES) / IMAGES_PER_SHARD)} looks; on a local disk ${duration((shards.seconds / shards.shards) * (IMAGES / IMAGES_PER_SHARD))}`,
      "larger shards: 100,000 images each",
    ],
    ["the order of a billion", "1 B images without shards", `${duration((order.seconds / order.images) * IMAGES)} before each epoch's first step, on each rank`, "shards"],
    ["the log", "1 B images, 300 epochs", `${gigabytes(steps * LOG_BYTES_PER_STEP)} GB in one file of ${count(steps)} lines; \`moco report\` reads up to 0.5 GB`, "nothing for the training, which appends and reads only the last byte"],
    ["numbers of images", "4.29 B", "an image's number is 32 bits", "several data sets"],
  ];
  return table(["what", "from", "how it shows", "what to change"], rows);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

const count = (value: number): string => Math.round(value).toLocaleString("en");
const gigabytes = (bytes: number): string => (bytes >= 9.95e9 ? (bytes / 1e9).toFixed(0) : bytes >= 5e7 ? (bytes / 1e9).toFixed(1) : (bytes / 1e9).toFixed(3));
const milliseconds = (seconds: number): string => (seconds >= 9.95e-3 ? (1000 * seconds).toFixed(0) : (1000 * seconds).toFixed(1));
const percent = (share: number): string => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

function duration(seconds: number): string {
  if (seconds < 100) return `${seconds.toPrecision(2)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
  if (seconds < 172_800) return `${(seconds / 3600).toFixed(seconds < 36_000 ? 1 : 0)} h`;
  return `${(seconds / 86_400).toFixed(0)} days`;
}
