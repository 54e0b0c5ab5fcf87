import pc from "picocolors";
import type { Comparison, InspectedTensor, Inspection } from "../checkpoint/index.js";
import { printable } from "../checkpoint/error.js";
import { megabytes } from "./megabytes.js";

const KINDS: Record<Inspection["kind"], string> = {
  "moco-v3": "pre-training of MoCo v3",
  "linear-probe": "linear probe of MoCo v3",
  encoder: "encoder of this package",
  deit: "DeiT's layout",
  timm: "timm's layout",
  torchvision: "torchvision's layout",
  huggingface: "Hugging Face's layout",
  "state-dict": "bare state dict",
  unknown: "no model that is known here",
};

const FORMATS: Record<Inspection["format"], string> = {
  zip: "zip (PyTorch 1.6 and later)",
  legacy: "legacy (PyTorch before 1.6)",
  safetensors: "safetensors",
};

/** What `moco inspect FILE` prints. @param chosen number of tensors that the flags ask for; the list may be cut */
export function formatInspection(inspection: Inspection, shown: readonly InspectedTensor[], chosen: number): string {
  const { kind, format, fileBytes, warnings, file } = inspection;
  const facts: [string, string | null][] = [
    ["file", `${file}, ${megabytes(fileBytes)}, ${FORMATS[format]}`],
    ["kind", `${kind}: ${KINDS[kind]}`],
    ["architecture", architecture(inspection)],
    ["input", input(inspection)],
    ["heads", heads(inspection)],
    ["classes", inspection.numClasses === null ? null : String(inspection.numClasses)],
    ["epoch", epoch(inspection)],
    ["accuracy", inspection.bestAccuracy === null ? null : `${inspection.bestAccuracy} % top-1 at best`],
    ["optimiser", inspection.optimizer],
    ["precision", inspection.precision],
    ["parameters", parameters(inspection)],
  ];
  const lines = facts.flatMap(([name, text]) => (text === null ? [] : [`${name.padEnd(12)}  ${text}`]));
  if (shown.length > 0) lines.push("", ...tensorTable(shown));
  if (shown.length < chosen) lines.push(`and ${chosen - shown.length} more; --limit ${chosen} shows all`);
  if (warnings.length > 0) lines.push("", ...warnings.map(({ code, message }) => `${pc.yellow(`warning (${code}):`)} ${message}`));
  return `${lines.join("\n")}\n`;
}

function architecture({ arch, archFrom, family, width, depth, stem, mlpRatio }: Inspection): string | null {
  if (family === null) return arch;
  const sizes = [
    width === null ? null : `width ${width}`,
    depth === null ? null : `depth ${depth}`,
    stem === "conv" ? "convolutional stem" : null,
    mlpRatio === null || mlpRatio === 4 ? null : `MLP ratio ${mlpRatio}`,
  ].filter((each) => each !== null);
  const from = archFrom === null ? "" : archFrom === "file" ? ", as the file says" : ", by its shapes";
  const name = arch === null ? `a ${family === "vit" ? "ViT" : "ResNet"} without a name of its own` : `${printable(arch)}${from}`;
  return sizes.length === 0 ? name : `${name} (${sizes.join(", ")})`;
}

function input({ patchSize, imageSize, fixedPositions }: Inspection): string | null {
  if (patchSize === null && imageSize === null) return null;
  const size = imageSize === null ? "of an unknown size" : `of ${imageSize[0]}×${imageSize[1]}`;
  return `images ${size}, patches of ${patchSize ?? "an unknown size"}, ${fixedPositions ? "MoCo v3's fixed" : "learned"} positions`;
}

function heads({ family, numHeads, numHeadsFrom }: Inspection): string | null {
  if (family !== "vit") return null;
  if (numHeads === null) return "unknown";
  return `${numHeads}, ${numHeadsFrom === "file" ? "as the file says" : numHeadsFrom === "config" ? "by config.json" : "by convention"}`;
}

function epoch({ epoch, step }: Inspection): string | null {
  if (epoch === null) return null;
  return step === null || step === 0 ? `${epoch} done` : `${epoch} done, and ${step} steps of the next`;
}

function parameters({ parameters, encoderParameters }: Inspection): string | null {
  if (parameters === 0) return null;
  const ofEncoder = encoderParameters === null || encoderParameters === parameters ? "" : `, of which the encoder ${millions(encoderParameters)}`;
  return `${millions(parameters)}${ofEncoder}`;
}

function tensorTable(tensors: readonly InspectedTensor[]): string[] {
  const rows = tensors.map(({ key, dtype, shape, mean, std }) => [printable(key, 200), dtype, `[${shape.join(", ")}]`, short(mean), short(std)]);
  return table([["tensor", "dtype", "shape", "mean", "std"], ...rows], 3);
}

/** What `moco inspect A B` prints. */
export function formatComparison(comparison: Comparison, limit = Infinity): string {
  const { a, b, equal, common, equalTensors, missing, extra, shapes, dtypes, values, largest, fields, commonFields, order, notes } = comparison;
  const lines = [`a  ${a.file} (${a.kind})`, `b  ${b.file} (${b.kind})`];
  const section = (title: string, rows: string[], all = rows.length, shown = rows.slice(0, limit)): void => {
    if (rows.length === 0) return;
    lines.push("", title, ...shown.map((row) => `  ${row}`));
    if (all > shown.length) lines.push(`  and ${all - shown.length} more`);
  };
  const name = (key: string): string => printable(key, 200);
  section(`only in a: ${missing.length}`, missing.map(name));
  section(`only in b: ${extra.length}`, extra.map(name));
  section(`other shape: ${shapes.length}`, shapes.map(({ key, a, b }) => `${name(key)}  [${a.join(", ")}] | [${b.join(", ")}]`));
  section(`other dtype: ${dtypes.length}`, dtypes.map(({ key, a, b }) => `${name(key)}  ${a} | ${b}`));
  if (largest !== null) {
    const rows = values.slice(0, limit).map(({ key, maxAbsolute, maxRelative, different, elements }) => [
      name(key), short(maxAbsolute), short(maxRelative), `${different} of ${elements}`,
    ]);
    const tableRows = table([["tensor", "largest |a - b|", "relative", "elements"], ...rows], 1);
    section(`other values: ${values.length}, by ${short(largest.maxAbsolute)} at most, in ${name(largest.key)}`, tableRows, values.length + 1, tableRows);
  }
  section(`other fields: ${fields.length}`, fields.map(({ key, a, b }) => `${name(key)}  ${field(a)} | ${field(b)}`));
  if (order) lines.push("", "the tensors come in another order");
  lines.push("", ...notes.map((note) => `note: ${note}`));
  const plain = commonFields > 0 ? ` and ${commonFields} plain values` : "";
  lines.push(equal ? `equal: ${common} tensors${plain}` : `different: ${equalTensors} of ${common} common tensors are equal`);
  return `${lines.join("\n")}\n`;
}

function field(text: string | null): string {
  if (text === null) return "-";
  const cut = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  return /^[\x20-\x7e…]*$/.test(cut) ? cut : printable(cut);
}

/** Columns side by side; those from `numbersFrom` on are aligned to the right. */
function table(rows: readonly string[][], numbersFrom: number): string[] {
  const widths = rows[0]!.map((_, column) => rows.reduce((width, row) => Math.max(width, row[column]!.length), 0));
  return rows.map((row) =>
    row.map((text, column) => (column >= numbersFrom ? text.padStart(widths[column]!) : text.padEnd(widths[column]!))).join("  ").trimEnd());
}

function short(value: number | null): string {
  if (value === null) return "-";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  const size = Math.abs(value);
  if (value === 0) return "0";
  return size >= 1e-3 && size < 1e6 ? String(Number(value.toPrecision(5))) : value.toExponential(3);
}

function millions(count: number): string {
  return count < 1e5 ? count.toLocaleString("en") : `${(count / 1e6).toFixed(2)} M`;
}
