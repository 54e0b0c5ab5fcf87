import { dtypes, isDType, type DType } from "../../torch/dtype.js";
import { numpyGlobals } from "./numpyObjects.js";
import { AllowedGlobal, checkCount, describe, keyOf, PickleDict, PickleNamespace, type PickleContext } from "./pickleObjects.js";
import { PythonComplex, PythonFloat, PythonGlobal, PythonTuple, TorchSize } from "../pythonValues.js";
import { cost } from "../limits.js";
import { geometryFault, TensorReference, TypedStorage } from "../references.js";
import { dtypeOfStorageClass, storageClassNames } from "../storageTypes.js";

/** `torch.FloatStorage` and so on, in a persistent id; a null dtype is `UntypedStorage`, counted in bytes. */
export class StorageClass extends PythonGlobal {
  constructor(module: string, name: string, readonly dtype: DType | null) {
    super(module, name);
  }
}

/** Python 2 names, which protocol 2 pickles use to this day. */
const renamedModules: Record<string, string> = { __builtin__: "builtins", copy_reg: "copyreg" };

const allowed = new Map<string, PythonGlobal>();

function allow(module: string, name: string, call: (args: readonly unknown[], context: PickleContext) => unknown): void {
  allowed.set(`${module} ${name}`, new AllowedGlobal(module, name, call));
}

/**
 * The allow-list: the class or function of that name when checkpoints may hold it, else undefined. Storage classes, dtypes, tensor
 * rebuild functions, OrderedDict, numpy scalars and arrays, `argparse.Namespace` and a few built-in types.
 */
export function lookUpGlobal(module: string, name: string): PythonGlobal | undefined {
  return allowed.get(`${Object.hasOwn(renamedModules, module) ? renamedModules[module] : module} ${name}`);
}

// --- torch ----------------------------------------------------------------------------------------------------------------

for (const module of ["torch", "torch.cuda"]) {
  for (const name of storageClassNames) allowed.set(`${module} ${name}`, new StorageClass(module, name, dtypeOfStorageClass(name) ?? null));
}
for (const module of ["torch.storage", "torch"]) allowed.set(`${module} UntypedStorage`, new StorageClass(module, "UntypedStorage", null));
for (const name of Object.keys(dtypes)) allowed.set(`torch ${name}`, new PythonGlobal("torch", name));
for (const [module, name] of [["torch", "Tensor"], ["torch.nn.parameter", "Parameter"]] as const) {
  allowed.set(`${module} ${name}`, new PythonGlobal(module, name)); // only as the type argument of _rebuild_from_type_v2
}

allow("torch._utils", "_rebuild_tensor", ([storage, offset, size, stride], context: PickleContext) =>
  rebuildTensor(context, storage, offset, size, stride, false, null));
allow("torch._utils", "_rebuild_tensor_v2", ([storage, offset, size, stride, requiresGrad, , metadata], context: PickleContext) =>
  rebuildTensor(context, storage, offset, size, stride, requiresGrad, null, metadata));
allow("torch._utils", "_rebuild_tensor_v3", ([storage, offset, size, stride, requiresGrad, , dtype, metadata], context: PickleContext) =>
  rebuildTensor(context, storage, offset, size, stride, requiresGrad, dtypeArgument(dtype, context), metadata));
for (const name of ["_rebuild_parameter", "_rebuild_parameter_with_state"]) {
  // The state is attributes that somebody set on the Parameter object; upstream sets none.
  allow("torch._utils", name, ([tensor, requiresGrad], context: PickleContext) => {
    if (!(tensor instanceof TensorReference)) context.fail(`${name} of ${describe(tensor)}; expected a tensor`);
    checkGradient(requiresGrad, tensor.dtype, context);
    context.charge(cost.tensor, "a parameter");
    return tensor.asParameter(requiresGrad === true);
  });
}
allow("torch._tensor", "_rebuild_from_type_v2", ([rebuild, type, args], context: PickleContext) => {
  if (!(rebuild instanceof AllowedGlobal) || !rebuild.qualifiedName.startsWith("_rebuild_")) {
    context.fail(`_rebuild_from_type_v2 with ${describe(rebuild)}; expected a tensor's rebuild function`);
  }
  if (rebuild.qualifiedName === "_rebuild_from_type_v2") context.fail("_rebuild_from_type_v2 of itself");
  if (!(type instanceof PythonGlobal)) context.fail(`a tensor of type ${describe(type)}; expected a class`);
  if (!(args instanceof PythonTuple)) context.fail("_rebuild_from_type_v2 without a tuple of arguments");
  return rebuild.call(args, context);
});

allow("torch", "Size", ([sizes], context: PickleContext) => {
  if (!Array.isArray(sizes) || !sizes.every((size) => Number.isSafeInteger(size))) {
    context.fail(`torch.Size of ${describe(sizes)}; expected a tuple of integers`);
  }
  context.charge(cost.tuple + cost.element * sizes.length, "a torch.Size");
  return TorchSize.fromArray(sizes as number[]);
});

allow("torch", "device", ([type, index], context: PickleContext) => {
  // As short as types are: the result may be the next one's type, and so on.
  if (typeof type !== "string" || type.length > 32 || !(index === undefined || Number.isSafeInteger(index))) {
    context.fail("torch.device without a type and a number");
  }
  context.charge(cost.object, "a torch.device");
  return index === undefined ? type : `${type}:${String(index)}`;
});

/** libtorch refuses gradients of integers. */
function checkGradient(requiresGrad: unknown, dtype: DType, context: PickleContext): void {
  const { kind } = dtypes[dtype];
  if (requiresGrad !== true || kind === "float" || kind === "complex") return;
  context.fail(`a tensor of ${dtype} is said to require a gradient; only floats can`);
}

function rebuildTensor(
  context: PickleContext, storage: unknown, offset: unknown, size: unknown, stride: unknown, requiresGrad: unknown,
  explicitDType: DType | null, metadata?: unknown,
): TensorReference {
  if (!(storage instanceof TypedStorage)) context.fail(`a tensor over ${describe(storage)}; expected a storage`);
  const dtype = explicitDType ?? storage.dtype;
  if (dtype === null) context.fail("a tensor over untyped storage without a dtype");
  if (!Array.isArray(size) || !Array.isArray(stride)) context.fail("a tensor without a tuple of sizes and a tuple of strides");
  if (size.length > context.limits.dimensions) {
    context.fail(`a tensor has ${size.length} dimensions; the limit is ${context.limits.dimensions}`);
  }
  // Conjugation and negation that PyTorch had put off: the stored numbers are not the tensor's.
  if (metadata instanceof PickleDict && metadata.entries.size > 0) {
    context.fail("a tensor with a pending conjugation or negation; save it again after .resolve_conj().resolve_neg()");
  }
  const { byteOffset } = storage;
  const { itemSize } = dtypes[dtype];
  if (byteOffset % itemSize !== 0) context.fail(`a ${dtype} tensor starts ${byteOffset} bytes into its storage, inside an element`);
  const wholeOffset = typeof offset === "number" ? offset + byteOffset / itemSize : Number.NaN;
  const fault = geometryFault(
    dtype, wholeOffset, size as number[], stride as number[], storage.storage.byteLength, context.limits.expandedBytes,
  );
  if (fault !== null) context.fail(fault);
  checkGradient(requiresGrad, dtype, context);
  context.charge(cost.tensor + cost.dimension * size.length, "a tensor");
  return new TensorReference(storage.storage, dtype, wholeOffset, [...size] as number[], [...stride] as number[], requiresGrad === true);
}

function dtypeArgument(value: unknown, context: PickleContext): DType {
  if (value instanceof PythonGlobal && value.module === "torch" && isDType(value.qualifiedName)) return value.qualifiedName;
  context.fail(`a tensor's dtype is ${describe(value)}; expected one of ${Object.keys(dtypes).join(", ")}`);
}

// --- The standard library -------------------------------------------------------------------------------------------------

function dictOf(ordered: boolean) {
  return ([items]: readonly unknown[], context: PickleContext): PickleDict => {
    context.charge(cost.dict, "a dict");
    const dict = new PickleDict(ordered);
    if (items === undefined) return dict;
    if (items instanceof PickleDict) {
      context.charge(cost.dictEntry * items.entries.size, "a dict");
      for (const [key, value] of items.entries) dict.entries.set(key, value);
    } else if (Array.isArray(items)) { // Python 2 pickled an OrderedDict as a list of pairs
      context.charge(cost.dictEntry * items.length, "a dict");
      for (const pair of items) {
        if (!Array.isArray(pair) || pair.length !== 2) context.fail("a dict from a list that is not one of pairs");
        dict.entries.set(keyOf(pair[0], context), pair[1]);
        checkCount(dict.entries, context);
      }
    } else {
      context.fail(`a dict made from ${describe(items)}`);
    }
    return dict;
  };
}

allow("collections", "OrderedDict", dictOf(true));
allow("collections", "Counter", dictOf(false));
allow("argparse", "Namespace", (args, context: PickleContext) => {
  if (args.length > 0) context.fail("argparse.Namespace with positional arguments");
  context.charge(cost.dict, "a Namespace");
  return new PickleNamespace();
});

for (const name of ["set", "frozenset"]) {
  allow("builtins", name, ([items], context: PickleContext) => {
    if (items !== undefined && !Array.isArray(items)) context.fail(`a set made from ${describe(items)}; expected a list`);
    const members = items ?? [];
    context.charge(cost.dict + cost.dictEntry * members.length, "a set");
    checkCount({ size: members.length }, context);
    return new Set<unknown>(members.map((member) => keyOf(member, context)));
  });
}

allow("builtins", "complex", ([real, imaginary], context: PickleContext) => {
  const parts = [real, imaginary].map((part) => (part instanceof PythonFloat ? part.value : part));
  if (!parts.every((part) => typeof part === "number")) context.fail("complex without two numbers");
  context.charge(cost.object, "a complex number");
  return new PythonComplex(parts[0] as number, parts[1] as number);
});

allow("builtins", "bytearray", ([content, encoding], context: PickleContext) => {
  context.charge(cost.bytes, "a byte string");
  if (content === undefined) return new Uint8Array(0);
  if (content instanceof Uint8Array) return content;
  if (typeof content === "string") return latin1(content, encoding, context);
  context.fail(`bytearray of ${describe(content)}; expected bytes`);
});

allow("builtins", "bytes", ([content], context: PickleContext) => {
  context.charge(cost.bytes, "a byte string");
  if (content === undefined) return new Uint8Array(0);
  if (content instanceof Uint8Array) return content;
  context.fail(`bytes of ${describe(content)}; expected bytes`);
});

/** Protocol 2 has no opcode for bytes: Python writes them as text of the same code points. */
allow("_codecs", "encode", ([text, encoding], context) => latin1(text, encoding, context));

function latin1(text: unknown, encoding: unknown, context: PickleContext): Uint8Array {
  if (typeof text !== "string") context.fail(`_codecs.encode of ${describe(text)}; expected a string`);
  if (encoding !== "latin1" && encoding !== "latin-1") context.fail(`_codecs.encode to ${describe(encoding)}; expected "latin1"`);
  context.charge(cost.bytes + text.length, "a byte string");
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 255) context.fail("bytes with a character beyond 255");
    bytes[i] = code;
  }
  return bytes;
}

for (const global of numpyGlobals) allowed.set(`${global.module} ${global.qualifiedName}`, global);
