import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import { ConvertError } from "../encoder/convertError.js";
import type { Attribute, OnnxNode, TensorInfo } from "./onnxMessages.js";
import type { OnnxPrecision } from "./onnxOptions.js";
import { quantised, scalesOf } from "./quantised.js";

/** Values that the file holds. They are made when their turn in the file comes, so that one at a time is in memory. */
export interface Initializer extends TensorInfo {
  /** Elements in C order, of any strides and on any device; called in a scope. */
  readonly make: () => Tensor;
}

/** Name of a value in the graph: of an input, an initialiser or a node's output. */
export type Value = string;

/**
 * Puts a network together out of ONNX operators, node by node in the order of their running.
 *
 * Initialisers have the checkpoint's own keys as names, and nodes the part of the network that they belong to.
 */
export class GraphBuilder {
  readonly nodes: OnnxNode[] = [];
  readonly initializers: Initializer[] = [];
  readonly #names = new Map<string, number>();
  readonly #constants = new Map<string, Value>();
  #section = "";

  constructor(readonly precision: OnnxPrecision) {}

  /** Of everything between the first and the last node. */
  get elementType(): "float32" | "float16" {
    return this.precision === "float16" ? "float16" : "float32";
  }

  /** Names what `build` adds after a part of the network: `blocks.0.attn/MatMul`. */
  section<T>(name: string, build: () => T): T {
    const outer = this.#section;
    this.#section = `${outer}${name}`;
    try {
      return build();
    } finally {
      this.#section = outer;
    }
  }

  /** Adds a node and returns its output. */
  apply(op: string, inputs: readonly Value[], attributes: Readonly<Record<string, Attribute>> = {}): Value {
    return this.applyTo(op, inputs, 1, attributes)[0]!;
  }

  /** Adds a node with several outputs. */
  applyTo(op: string, inputs: readonly Value[], count: number, attributes: Readonly<Record<string, Attribute>> = {}): Value[] {
    const name = this.#unused(`${this.#section}/${op}`);
    const outputs = Array.from({ length: count }, (_, i) => (count === 1 ? `${name}:out` : `${name}:out${i}`));
    this.nodes.push({ name, op, inputs, outputs, attributes });
    return outputs;
  }

  /** Adds a node whose output has the given name: an output of the graph. */
  output(name: string, op: string, inputs: readonly Value[], attributes: Readonly<Record<string, Attribute>> = {}): void {
    this.nodes.push({ name: this.#unused(`${name}/${op}`), op, inputs, outputs: [name], attributes });
  }

  /** Numbers that shape the graph, such as the operand of Reshape: int64. Those asked for again are the same initialiser. */
  shape(values: readonly number[]): Value {
    return this.#once(`shape_${values.join("_").replaceAll("-", "minus")}`, (name) => {
      const make = (): Tensor => torch.tensor(BigInt64Array.from(values, BigInt));
      this.initializers.push({ name, elementType: "int64", dims: [values.length], make });
      return name;
    });
  }

  /** A number without dimensions, of the type that the network computes in; one that is asked for again is the same initialiser. */
  scalar(name: string, value: number): Value {
    return this.#once(name, () => this.parameter(name, [], () => torch.tensor([value], [])));
  }

  /**
   * Values that keep their precision where weights are quantised: biases, normalisations, positions.
   *
   * @param make gives them as floats of any width
   */
  parameter(key: string, dims: readonly number[], make: () => Tensor): Value {
    const name = this.#unused(key);
    const { elementType } = this;
    this.initializers.push({ name, elementType, dims, make: () => rounded(name, make(), elementType) });
    return name;
  }

  /**
   * The weight of a matrix product or convolution. With `int8` the graph holds whole numbers and one scale for each output channel, and
   * gets a node that multiplies them.
   *
   * @param channelAxis which dimension counts the output channels
   */
  weight(key: string, dims: readonly number[], channelAxis: number, make: () => Tensor): Value {
    if (this.precision !== "int8") return this.parameter(key, dims, make);
    const weight = (): Tensor => requireFinite(key, make());
    const whole = this.#unused(`${key}.int8`);
    this.initializers.push({ name: whole, elementType: "int8", dims, make: () => quantised(weight(), channelAxis) });
    const scale = this.parameter(`${key}.scale`, [dims[channelAxis]!], () => scalesOf(weight(), channelAxis));
    return this.apply("DequantizeLinear", [whole, scale], { axis: channelAxis });
  }

  #once(name: string, add: (name: string) => Value): Value {
    const value = this.#constants.get(name) ?? add(name);
    this.#constants.set(name, value);
    return value;
  }

  #unused(name: string): string {
    const count = this.#names.get(name) ?? 0;
    this.#names.set(name, count + 1);
    return count === 0 ? name : `${name}_${count}`;
  }
}

/** From here on a value is infinite in float16: half a step above the largest, 65504. */
const FLOAT16_END = 65520;

function rounded(name: string, values: Tensor, elementType: "float32" | "float16"): Tensor {
  // NaN and infinity of the checkpoint itself stay what they are.
  const magnitude = largestMagnitude(values);
  if (elementType === "float16" && Number.isFinite(magnitude) && magnitude >= FLOAT16_END) {
    throw new ConvertError(
      `${name} has values up to ${magnitude.toPrecision(3)}, and those of float16 end at 65504; choose the precision float32 ` +
      "(--precision float32)",
    );
  }
  return values.to(elementType);
}

/** NaN where any value is. */
function largestMagnitude(values: Tensor): number {
  if (values.numel() === 0) return 0;
  const [least, most] = torch.aminmax(values) as [Tensor, Tensor];
  return Math.max(-(least.item() as number), most.item() as number);
}

function requireFinite(name: string, values: Tensor): Tensor {
  if (Number.isFinite(largestMagnitude(values))) return values;
  throw new ConvertError(
    `${name} has values that are not finite, of which no scale for int8 can be told; take an earlier checkpoint, or look at this one ` +
    "with moco inspect",
  );
}
