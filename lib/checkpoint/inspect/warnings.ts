import * as torch from "../../torch/index.js";
import { dtypes } from "../../torch/index.js";
import { conventionalHeads, MOCO_HEADS } from "../encoder/architecture.js";
import type { RecognisedCheckpoint } from "../encoder/recognise.js";
import { printable } from "../error.js";
import type { TensorEntry } from "./entries.js";
import { countNotPositive, type Statistics } from "./statistics.js";

/** Something about a checkpoint that bites whoever does not know it. */
export interface Warning {
  /** Stays the same from version to version. */
  code:
    | "module-prefix" | "heads" | "heads-unknown" | "projector" | "not-pretraining" | "no-optimizer" | "no-scaler" | "non-finite"
    | "batch-norm" | "half-precision" | "image-size" | "unused-storage" | "unknown-globals";
  message: string;
}

export interface WarningEvidence {
  recognised: RecognisedCheckpoint;
  /** The checkpoint's top level, where that is a dict. */
  topLevel: ReadonlySet<string>;
  tensors: readonly (TensorEntry & Statistics)[];
  unknownGlobals: readonly string[];
  /** Whether PyTorch's `weights_only=True`, and so this package, refuses the file. */
  refused: boolean;
}

/** Everything that a user of this checkpoint should know; the most dangerous first. */
export function findWarnings(evidence: WarningEvidence): Warning[] {
  return RULES.flatMap(([code, rule]) => {
    const message = rule(evidence);
    return message === null ? [] : [{ code, message }];
  });
}

type Rule = (evidence: WarningEvidence) => string | null;

const RULES: readonly [Warning["code"], Rule][] = [
  ["unknown-globals", unknownGlobals],
  ["non-finite", nonFinite],
  ["heads", heads],
  ["heads-unknown", headsUnknown],
  ["projector", projector],
  ["not-pretraining", notPretraining],
  ["no-optimizer", ({ recognised: { kind }, topLevel }) =>
    kind === "moco-v3" && !topLevel.has("optimizer")
      ? "the file has no optimizer: resuming from it starts the optimiser's running means afresh" : null],
  ["no-scaler", ({ recognised: { kind }, topLevel }) =>
    kind === "moco-v3" && !topLevel.has("scaler")
      ? "the file has no scaler: a run in float16 that resumes from it starts with the default loss scale" : null],
  ["batch-norm", batchNorm],
  ["half-precision", halfPrecision],
  ["image-size", imageSize],
  ["module-prefix", modulePrefix],
  ["unused-storage", unusedStorage],
];

function unknownGlobals({ unknownGlobals, refused }: WarningEvidence): string | null {
  if (!refused && unknownGlobals.length === 0) return null;
  return `the file asks for ${shortList(unknownGlobals.map((name) => printable(name)))}, which no checkpoint needs. torch.load with ` +
    "weights_only=False would import and may call it: that is running code out of the file. Here it was read as inert data, and nothing was " +
    "run; convert, resume and readCheckpoint refuse the file";
}

function nonFinite({ tensors }: WarningEvidence): string | null {
  const bad = tensors.filter(({ nan, infinite }) => nan + infinite > 0);
  if (bad.length === 0) return null;
  const sum = (field: "nan" | "infinite"): number => bad.reduce((total, each) => total + each[field], 0);
  const names = shortList(bad.map(({ key, nan, infinite, tensor }) => `${printable(key)} (${nan + infinite} of ${tensor.numel()})`));
  return `${sum("nan")} values are NaN and ${sum("infinite")} infinite, in ${names}; the training diverged or the file is damaged. Take an ` +
    "earlier checkpoint (mean and std of such tensors are null in JSON)";
}

function heads({ recognised }: WarningEvidence): string | null {
  const { kind, family, width, numHeads, numHeadsFrom, fixedPositions } = recognised;
  if (family !== "vit" || width === null || numHeads === null) return null;
  if (numHeadsFrom === "config") {
    if (!fixedPositions || numHeads === MOCO_HEADS || width % MOCO_HEADS !== 0) return null;
    return `config.json says ${numHeads} attention heads, yet the position embedding is MoCo v3's, whose ViTs have ${MOCO_HEADS}. The shapes ` +
      `are the same, so features come out wrong without an error: set num_attention_heads to ${MOCO_HEADS}, unless you trained it otherwise`;
  }
  const usual = conventionalHeads(width);
  if (usual === null || usual === numHeads) return null;
  const others = kind === "torchvision" || kind === "huggingface" ? "other ViTs have" : "timm's and DeiT's has";
  return `this ViT of width ${width} has ${numHeads} attention heads${numHeadsFrom === "convention" ? ", as all of MoCo v3's" : ""}; ${others} ` +
    `${usual}. The shapes are the same, so the weights load there and give wrong features without an error. Say ${withHeads(recognised)}`;
}

/** The words that make another library build a ViT with these heads. */
function withHeads({ kind, width, numHeads, patchSize, imageSize }: RecognisedCheckpoint): string {
  if (kind === "torchvision") return `torchvision.models.VisionTransformer(num_heads=${numHeads}, ...)`;
  if (kind === "huggingface") return `"num_attention_heads": ${numHeads} in config.json`;
  const size = ({ 192: "tiny", 384: "small", 768: "base", 1024: "large" } as Record<number, string>)[width ?? 0];
  if (size === undefined) return `num_heads=${numHeads} when making the model`;
  return `timm.create_model("vit_${size}_patch${patchSize ?? 16}_${imageSize?.[0] ?? 224}", num_heads=${numHeads})`;
}

function headsUnknown({ recognised: { family, numHeads } }: WarningEvidence): string | null {
  if (family !== "vit" || numHeads !== null) return null;
  return "nothing tells how many attention heads this ViT has, and a wrong number gives wrong features without an error; ask whoever trained " +
    "it, and give the number to Embedder.load or convert";
}

function projector({ recognised: { kind, state } }: WarningEvidence): string | null {
  const keys = [...state.keys()];
  const layer = keys.find((key) => /(^|\.)(head|fc)\.\d+\.weight$/.test(key));
  if (layer === undefined) return null;
  const name = layer.replace(/\.\d+\.weight$/, "");
  const predictor = keys.some((key) => /(^|\.)predictor\.\d/.test(key)) ? ", and predictor.* its predictor" : "";
  const remedy = kind === "moco-v3"
    ? "take the encoder's features before it (convert and Embedder do)"
    : "leave it out (convert does), or a program that calls the whole model gets contrasted outputs instead of features";
  return `${printable(name)}.* is the projector of pre-training${predictor}, no classifier: ${remedy}`;
}

function notPretraining({ recognised: { kind } }: WarningEvidence): string | null {
  if (kind !== "linear-probe") return null;
  return "this is a linear probe, a frozen encoder and a classifier: no --resume of pre-training takes it (its epoch and optimiser are the " +
    "classifier's). Give the file that pre-training wrote";
}

function batchNorm({ tensors }: WarningEvidence): string | null {
  const model = tensors.filter(({ group }) => group === "model");
  const dead = model.filter(({ key, tensor }) => key.endsWith("running_var") && countNotPositive(tensor) > 0);
  const fresh = model.filter(({ key, tensor, mean }) => key.endsWith("num_batches_tracked") && tensor.numel() === 1 && mean === 0);
  const parts = [
    ...(dead.length > 0 ? [`running_var is 0 or below in ${shortList(dead.map(({ key }) => printable(key)))}: those channels are dead`] : []),
    ...(fresh.length > 0 ? [`${shortList(fresh.map(({ key }) => printable(key)))} is 0: those layers have not seen a batch yet`] : []),
  ];
  return parts.length === 0 ? null : `${parts.join("; ")}. Evaluation with such statistics gives useless features`;
}

function halfPrecision({ tensors }: WarningEvidence): string | null {
  const model = tensors.filter(({ group, tensor }) => group === "model" && dtypes[tensor.dtype].kind === "float");
  const half = model.filter(({ tensor }) => dtypes[tensor.dtype].itemSize < 4);
  if (half.length === 0) return null;
  const names = [...new Set(half.map(({ tensor }) => tensor.dtype))].join(", ");
  return `${half.length} of the model's ${model.length} tensors of floats are stored as ${names}: fine for features, while training that goes ` +
    "on from here has lost digits";
}

function imageSize({ recognised: { family, imageSize, patchSize } }: WarningEvidence): string | null {
  if (family !== "vit" || imageSize === null || (imageSize[0] === 224 && imageSize[1] === 224)) return null;
  const [height, width] = imageSize;
  return `the position embedding is for images of ${height}×${width} in patches of ${patchSize}; a model built for the usual 224×224 does not ` +
    `take it: say img_size=${height === width ? height : `(${height}, ${width})`} in timm, --image-size here`;
}

function modulePrefix({ recognised: { prefix } }: WarningEvidence): string | null {
  if (prefix === "") return null;
  return `every key begins with "${printable(prefix)}"${prefix === "module." ? ", which DistributedDataParallel has left there" : ""}; a bare ` +
    `model does not take them. In Python: {k.removeprefix("${prefix}"): v for k, v in state_dict.items()}; here: stripPrefix(state), ` +
    "and every command does it by itself";
}

/** Less than this is not worth a word. */
const LEAST_WASTE = 2 ** 20;

function unusedStorage({ tensors }: WarningEvidence): string | null {
  const storages = new Map<bigint, { bytes: number; shown: number; keys: string[] }>();
  const counted = new Set<unknown>();
  for (const { key, tensor } of tensors) {
    if (counted.has(tensor)) continue;
    counted.add(tensor);
    const { id, bytes } = torch.storageOf(tensor);
    const storage = storages.get(id) ?? { bytes, shown: 0, keys: [] };
    storages.set(id, storage);
    storage.shown += tensor.numel() * dtypes[tensor.dtype].itemSize;
    storage.keys.push(key);
  }
  const wasteful = [...storages.values()].filter(({ bytes, shown }) => bytes - shown >= LEAST_WASTE);
  if (wasteful.length === 0) return null;
  const wasted = wasteful.reduce((sum, { bytes, shown }) => sum + bytes - shown, 0);
  return `${(wasted / 2 ** 20).toFixed(1)} MiB of the file belong to storages that no tensor shows whole (${shortList(wasteful.map(({ keys }) =>
    printable(keys[0]!)))}): views of larger tensors were saved. clone() them before saving, or convert the file`;
}

/** The first few of a list, and how many more there are. */
function shortList(names: readonly string[], most = 4): string {
  if (names.length === 0) return "a class or function that is thrown away again";
  const rest = names.length - most;
  return names.slice(0, most).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}
