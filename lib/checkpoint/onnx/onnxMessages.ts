import protobuf from "protobufjs/minimal.js";

/**
 * The messages of ONNX's schema that a model consists of, as protocol buffers. The numbers of their fields are those of onnx.proto; of
 * the schema's many fields only these are needed.
 */

/** Element types and their numbers in `TensorProto.DataType`. */
export const elementTypes = { float32: 1, uint8: 2, int8: 3, int64: 7, float16: 10 } as const;
export type ElementType = keyof typeof elementTypes;
export const elementBytes: Record<ElementType, number> = { float32: 4, uint8: 1, int8: 1, int64: 8, float16: 2 };

/** A whole number, a list of them, or a float, which JavaScript does not tell from a whole number. */
export type Attribute = number | readonly number[] | { readonly float: number };

export interface OnnxNode {
  readonly name: string;
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** An input or output of the graph. A dimension with a name takes any size. */
export interface ValueInfo {
  readonly name: string;
  readonly elementType: ElementType;
  readonly dims: readonly (number | string)[];
  readonly description: string;
}

export interface TensorInfo {
  readonly name: string;
  readonly elementType: ElementType;
  readonly dims: readonly number[];
}

/** Besides its graph. */
export interface ModelInfo {
  readonly irVersion: number;
  readonly opset: number;
  readonly producer: string;
  readonly producerVersion: string;
  readonly description: string;
  readonly metadata: Readonly<Record<string, string>>;
}

const { Writer } = protobuf;
type Writer = protobuf.Writer;

const VARINT = 0;
const BYTES = 2;
const FIXED32 = 5;
const tag = (field: number, wireType: number): number => (field << 3) | wireType;

/** Field numbers of `ModelProto` and `GraphProto` that hold the large parts. */
const MODEL_GRAPH = 7;
const GRAPH_NODE = 1;
const GRAPH_INITIALIZER = 5;
const TENSOR_RAW_DATA = 9;

/** `ModelProto` up to its graph: its fields, then the beginning of the graph's, whose `graphBytes` follow. */
export function modelHead(model: ModelInfo, graphBytes: number): Uint8Array {
  const writer = Writer.create();
  writer.uint32(tag(1, VARINT)).int64(model.irVersion);
  writer.uint32(tag(2, BYTES)).string(model.producer);
  writer.uint32(tag(3, BYTES)).string(model.producerVersion);
  writer.uint32(tag(6, BYTES)).string(model.description);
  writer.uint32(tag(8, BYTES)).fork();
  writer.uint32(tag(1, BYTES)).string("").uint32(tag(2, VARINT)).int64(model.opset).ldelim();
  for (const [key, value] of Object.entries(model.metadata)) {
    writer.uint32(tag(14, BYTES)).fork().uint32(tag(1, BYTES)).string(key).uint32(tag(2, BYTES)).string(value).ldelim();
  }
  return writer.uint32(tag(MODEL_GRAPH, BYTES)).uint32(graphBytes).finish();
}

/** `GraphProto` without its initialisers. */
export function graphHead(
  name: string, description: string, nodes: readonly OnnxNode[], inputs: readonly ValueInfo[], outputs: readonly ValueInfo[],
): Uint8Array {
  const writer = Writer.create();
  for (const node of nodes) writeNode(writer.uint32(tag(GRAPH_NODE, BYTES)).fork(), node).ldelim();
  writer.uint32(tag(2, BYTES)).string(name);
  writer.uint32(tag(10, BYTES)).string(description);
  for (const input of inputs) writeValueInfo(writer.uint32(tag(11, BYTES)).fork(), input).ldelim();
  for (const output of outputs) writeValueInfo(writer.uint32(tag(12, BYTES)).fork(), output).ldelim();
  return writer.finish();
}

/** An initialiser of the graph up to its elements, which follow. */
export function initializerHead({ name, elementType, dims }: TensorInfo): Uint8Array {
  const byteLength = dataBytes({ elementType, dims });
  const fields = Writer.create();
  fields.uint32(tag(1, BYTES)).fork();
  for (const size of dims) fields.int64(size);
  fields.ldelim();
  fields.uint32(tag(2, VARINT)).int32(elementTypes[elementType]);
  fields.uint32(tag(8, BYTES)).string(name);
  fields.uint32(tag(TENSOR_RAW_DATA, BYTES)).uint32(byteLength);
  const bytes = fields.finish();
  const head = Writer.create().uint32(tag(GRAPH_INITIALIZER, BYTES)).uint32(bytes.byteLength + byteLength).finish();
  return Buffer.concat([head, bytes]);
}

/** Bytes of a tensor's elements. */
export function dataBytes({ elementType, dims }: Pick<TensorInfo, "elementType" | "dims">): number {
  return dims.reduce((product, size) => product * size, elementBytes[elementType]);
}

function writeNode(writer: Writer, { name, op, inputs, outputs, attributes }: OnnxNode): Writer {
  for (const input of inputs) writer.uint32(tag(1, BYTES)).string(input);
  for (const output of outputs) writer.uint32(tag(2, BYTES)).string(output);
  writer.uint32(tag(3, BYTES)).string(name).uint32(tag(4, BYTES)).string(op);
  for (const [key, value] of Object.entries(attributes)) {
    writer.uint32(tag(5, BYTES)).fork().uint32(tag(1, BYTES)).string(key);
    writeAttribute(writer, value).ldelim();
  }
  return writer;
}

/** The value, then `AttributeProto.type`: FLOAT 1, INT 2, INTS 7. */
function writeAttribute(writer: Writer, value: Attribute): Writer {
  if (typeof value === "number") return writer.uint32(tag(3, VARINT)).int64(value).uint32(tag(20, VARINT)).int32(2);
  if ("float" in value) return writer.uint32(tag(2, FIXED32)).float(value.float).uint32(tag(20, VARINT)).int32(1);
  for (const each of value) writer.uint32(tag(8, VARINT)).int64(each);
  return writer.uint32(tag(20, VARINT)).int32(7);
}

function writeValueInfo(writer: Writer, { name, elementType, dims, description }: ValueInfo): Writer {
  writer.uint32(tag(1, BYTES)).string(name);
  writer.uint32(tag(2, BYTES)).fork().uint32(tag(1, BYTES)).fork();
  writer.uint32(tag(1, VARINT)).int32(elementTypes[elementType]);
  writer.uint32(tag(2, BYTES)).fork();
  for (const size of dims) {
    writer.uint32(tag(1, BYTES)).fork();
    if (typeof size === "number") writer.uint32(tag(1, VARINT)).int64(size);
    else writer.uint32(tag(2, BYTES)).string(size);
    writer.ldelim();
  }
  writer.ldelim().ldelim().ldelim();
  return writer.uint32(tag(3, BYTES)).string(description);
}
