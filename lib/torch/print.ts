/**
 * Text of a tensor, laid out as PyTorch prints it: four decimals, scientific notation where magnitudes differ too much, and only
 * the edges of tensors of more than a thousand elements.
 */
import { dtypes, type DType, type TypedArray } from "./dtype.js";

const precision = 4;
const lineWidth = 80;
/** Tensors with more elements show only their edges. */
export const printThreshold = 1000;
/** Elements shown at either end of a dimension of a tensor that shows only its edges. */
export const printEdge = 3;
const prefix = "tensor(";

/** What printing needs to know of a tensor. */
export interface Printable {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly device: string;
  readonly requiresGrad?: boolean;
  /** Name of the autograd node that made it, such as `AddBackward0`; null for a leaf. */
  readonly gradFn?: string | null;
  /** All elements in C order; complex ones as pairs. */
  data(): TypedArray;
  /**
   * Only the elements that are shown of a tensor of more than `printThreshold` elements, in C order: along every dimension longer
   * than twice `printEdge` the first and the last `printEdge`. Spares copying the whole tensor; without it `data` is used.
   */
  edgeData?(): TypedArray;
}

type Value = number | bigint;

/** Rounds half to even like C and Python; JavaScript's own functions round half away from zero. */
function roundedText(value: number, short: string, long: string): string {
  // `long` has 40 more digits than `short`, enough to tell a tie from any other double.
  const [mantissa = "", exponent = ""] = long.split("e");
  const kept = mantissa.slice(0, -40).replace(/\.$/, "");
  const isTie = /^50*$/.test(mantissa.slice(-40));
  const keepsLower = isTie && /[02468]$/.test(kept);
  const text = keepsLower ? (exponent === "" ? kept : `${kept}e${exponent}`) : short;
  return Object.is(value, -0) ? `-${text}` : text;
}

function nonFinite(value: number): string {
  return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

function fixedText(value: number, digits: number): string {
  if (!Number.isFinite(value)) return nonFinite(value);
  return roundedText(value, value.toFixed(digits), value.toFixed(digits + 40));
}

function scientificText(value: number): string {
  if (!Number.isFinite(value)) return nonFinite(value);
  const text = roundedText(value, value.toExponential(precision), value.toExponential(precision + 40));
  return text.replace(/e([+-])(\d)$/, "e$10$2"); // two digits of exponent, as in C
}

interface Formatter {
  readonly width: number;
  format(value: Value): string;
}

function formatterOf(texts: (value: Value) => string, widthOf: Iterable<Value>): Formatter {
  let width = 1;
  for (const value of widthOf) width = Math.max(width, texts(value).length);
  return { width, format: (value) => texts(value).padStart(width) };
}

/** One width and notation for all values, chosen from those that are finite and not zero. */
function floatFormatter(values: readonly number[]): Formatter {
  const significant = values.filter((value) => Number.isFinite(value) && value !== 0);
  const magnitudes = significant.map(Math.abs);
  const min = Math.min(...magnitudes);
  const max = Math.max(...magnitudes);
  const scientific = significant.length > 0 && (max / min > 1000 || max > 1e8 || min < 1e-4);
  const allIntegers = significant.every(Number.isInteger);
  const text = (value: Value): string => {
    if (scientific) return scientificText(Number(value));
    if (!allIntegers) return fixedText(Number(value), precision);
    return fixedText(Number(value), 0) + (Number.isFinite(value) ? "." : ""); // the point tells floats from integers
  };
  return formatterOf(text, significant);
}

function formatterFor(values: readonly Value[], dtype: DType): Formatter {
  const { kind } = dtypes[dtype];
  if (kind === "bool") return formatterOf((value) => (value ? "True" : "False"), values);
  if (kind === "int") return formatterOf(String, values);
  return floatFormatter(values as readonly number[]);
}

/** Sizes of what is shown of a tensor that shows only its edges. */
function edgeShape(shape: readonly number[]): number[] {
  return shape.map((size) => Math.min(size, 2 * printEdge));
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total * size, 1);
}

/** Positions, in C order, of the elements that are shown. */
function shownIndices(shape: readonly number[]): number[] {
  let indices = [0];
  for (const size of shape) {
    const positions = Array.from({ length: size > 2 * printEdge ? 2 * printEdge : size }, (_, i) =>
      (size > 2 * printEdge && i >= printEdge ? size - 2 * printEdge + i : i));
    indices = indices.flatMap((index) => positions.map((position) => index * size + position));
  }
  return indices;
}

/** Nested brackets around texts of elements that lie in C order. */
class Layout {
  constructor(
    private readonly texts: readonly string[],
    private readonly shape: readonly number[],
    private readonly elementWidth: number,
    private readonly summarized: boolean,
  ) {}

  /** Sub-tensor at `offset` whose first dimension is `dimension`, its first bracket in column `indent`. */
  text(dimension: number, offset: number, indent: number): string {
    const remaining = this.shape.length - dimension;
    if (remaining === 0) return this.texts[offset] as string;
    const size = this.shape[dimension] as number;
    const isCut = this.summarized && size > 2 * printEdge;
    const shownHere = isCut ? 2 * printEdge : size;
    const shownBelow = this.shape.slice(dimension + 1);
    const stride = product(this.summarized ? edgeShape(shownBelow) : shownBelow);
    const parts = Array.from({ length: shownHere }, (_, i) => this.text(dimension + 1, offset + i * stride, indent + 1));
    if (isCut) parts.splice(printEdge, 0, remaining === 1 ? " ..." : "...");
    if (remaining === 1) return this.lines(parts, indent);
    return `[${parts.join(`,${"\n".repeat(remaining - 1)}${" ".repeat(indent + 1)}`)}]`;
  }

  private lines(parts: readonly string[], indent: number): string {
    const perLine = Math.max(1, Math.floor((lineWidth - indent) / (this.elementWidth + 2)));
    const lines: string[] = [];
    for (let i = 0; i < parts.length; i += perLine) lines.push(parts.slice(i, i + perLine).join(", "));
    return `[${lines.join(`,\n${" ".repeat(indent + 1)}`)}]`;
  }
}

function formatShown(shown: readonly Value[], shape: readonly number[], dtype: DType, indent: number, summarized: boolean): string {
  if (dtypes[dtype].kind !== "complex") {
    const formatter = formatterFor(shown, dtype);
    return new Layout(shown.map(formatter.format), shape, formatter.width, summarized).text(0, 0, indent);
  }
  const real = shown.filter((_, i) => i % 2 === 0) as number[];
  const imaginary = shown.filter((_, i) => i % 2 === 1) as number[];
  const realFormatter = floatFormatter(real);
  const imaginaryFormatter = floatFormatter(imaginary);
  const texts = real.map((value, i) => {
    const text = `${imaginaryFormatter.format(imaginary[i] as number)}j`.trimStart();
    return `${realFormatter.format(value)}${/^[+-]/.test(text) ? "" : "+"}${text}`;
  });
  return new Layout(texts, shape, realFormatter.width + imaginaryFormatter.width + 1, summarized).text(0, 0, indent);
}

/**
 * The elements in brackets, as PyTorch prints them between `tensor(` and the first comma after.
 *
 * @param data all elements in C order, complex ones as pairs
 * @param indent column of the first bracket, by which further lines are indented
 */
export function formatValues(data: ArrayLike<Value>, shape: readonly number[], dtype: DType, indent = prefix.length): string {
  const count = product(shape);
  if (count === 0) return "[]";
  if (count <= printThreshold) return formatShown(Array.from(data), shape, dtype, indent, false);
  const parts = dtypes[dtype].kind === "complex" ? 2 : 1;
  const shown = shownIndices(shape).flatMap((index) => Array.from({ length: parts }, (_, part) => data[index * parts + part] as Value));
  return formatShown(shown, shape, dtype, indent, true);
}

/** Facts after the elements, on a new line where the last one has no room. */
function appendSuffixes(text: string, suffixes: readonly string[]): string {
  let result = text;
  let lastLine = text.length - text.lastIndexOf("\n") + 1;
  for (const suffix of suffixes) {
    if (lastLine + suffix.length + 2 > lineWidth) {
      result += `,\n${" ".repeat(prefix.length)}${suffix}`;
      lastLine = prefix.length + suffix.length;
    } else {
      result += `, ${suffix}`;
      lastLine += suffix.length + 2;
    }
  }
  return `${result})`;
}

const dtypesNotShown: ReadonlySet<DType> = new Set<DType>(["float32", "int64", "bool", "complex64"]);

/**
 * Text of a tensor: elements, shape, and what differs from the usual: dtype, device, gradient.
 *
 * @example
 * formatTensor(torch.tensor([1, 2.5])) // tensor([1.0000, 2.5000], shape=[2])
 */
export function formatTensor(tensor: Printable): string {
  const { shape, dtype, device } = tensor;
  const count = product(shape);
  let values: string;
  if (device === "meta") values = "...";
  else if (count > printThreshold && tensor.edgeData !== undefined) {
    values = formatShown(Array.from<Value>(tensor.edgeData()), shape, dtype, prefix.length, true);
  } else values = count === 0 ? "[]" : formatValues(tensor.data(), shape, dtype);

  const suffixes = [`shape=[${shape.join(", ")}]`];
  const dtypeShowsInValues = count > 0 && device !== "meta";
  if (dtypeShowsInValues ? !dtypesNotShown.has(dtype) : dtype !== "float32") suffixes.push(`dtype=${dtype}`);
  if (device !== "cpu") suffixes.push(`device=${device}`);
  if (typeof tensor.gradFn === "string") suffixes.push(`grad_fn=<${tensor.gradFn}>`);
  else if (tensor.requiresGrad === true) suffixes.push("requires_grad=true");
  return appendSuffixes(prefix + values, suffixes);
}
