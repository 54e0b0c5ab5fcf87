import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Tensor } from "../../torch/index.js";
import { disposeTensors } from "../dispose.js";
import type { OrderedDict } from "../pythonValues.js";
import { readCheckpoint, type ReadOptions } from "../readCheckpoint.js";
import { backboneOf, type WhichEncoder } from "./backbone.js";
import { ConvertError } from "./convertError.js";
import { specOf, type EncoderSpec } from "./encoderSpec.js";
import { fieldsOf } from "./fields.js";
import { checkHuggingfaceConfig } from "./huggingfaceConfig.js";
import { recogniseCheckpoint, type RecognisedCheckpoint } from "./recognise.js";

/** What a folder of transformers or timm may call its weights, in the order of preference. */
const WEIGHT_FILES = ["model.safetensors", "pytorch_model.bin"];
const LONGEST_CONFIG = 2 ** 20;

/** Which encoder of a file is read, and what the file does not tell. */
export interface ReadEncoderOptions extends ReadOptions {
  /** Which encoder of a pre-training checkpoint. Default "base", as upstream evaluates. */
  which?: WhichEncoder;
  /** Attention heads of a ViT, where they are not what the file says or its kind usually has. */
  numHeads?: number | undefined;
}

/** An encoder that was taken out of a file. Its tensors live until `dispose`. */
export interface ReadEncoder {
  /** The file that the tensors are from. */
  file: string;
  recognised: RecognisedCheckpoint;
  /** The encoder's tensors under our names, without any head. */
  backbone: OrderedDict<string, Tensor>;
  spec: EncoderSpec;
  /** All that the file holds. */
  value: unknown;
  dispose(): void;
  [Symbol.dispose](): void;
}

/**
 * Reads the encoder out of any file that `moco convert` knows, or out of a folder of Hugging Face's with config.json and weights.
 *
 * @throws CheckpointError for a file that cannot be read; ConvertError for one that holds no encoder that can be used here
 * @example
 * using read = await readEncoderFile("vit-s-300ep.pth.tar");
 * console.log(read.recognised.kind, read.spec.numHeads); // moco-v3 12
 */
export async function readEncoderFile(path: string, options: ReadEncoderOptions = {}): Promise<ReadEncoder> {
  const { which, numHeads, ...readOptions } = options;
  const { file, config } = await findWeights(path);
  const value = await readCheckpoint<unknown>(file, readOptions);
  try {
    const recognised = recogniseCheckpoint(value, config);
    const backbone = backboneOf(recognised, which);
    const dispose = (): void => {
      disposeTensors(value);
      disposeTensors(backbone); // what the file has in several tensors
    };
    try {
      if (recognised.kind === "huggingface" && config !== undefined) checkHuggingfaceConfig(config, recognised);
      const spec = specOf(recognised, backbone, { numHeads });
      return { file, recognised, backbone, spec, value, dispose, [Symbol.dispose]: dispose };
    } catch (error) {
      disposeTensors(backbone);
      throw error;
    }
  } catch (error) {
    disposeTensors(value);
    if (error instanceof ConvertError) throw new ConvertError(`${path}: ${error.message}`, { cause: error });
    throw error;
  }
}

/** Whether a path is a folder with a model in it, as transformers and timm save one. */
export async function isModelFolder(path: string): Promise<boolean> {
  return (await isFolder(path)) && (await Promise.all(WEIGHT_FILES.map((name) => exists(join(path, name))))).includes(true);
}

/** The file with the weights, and the content of config.json beside it; one belongs to the other by the weights' name. */
export async function findWeights(path: string): Promise<{ file: string; config?: Record<string, unknown> }> {
  const folder = (await isFolder(path)) ? path : WEIGHT_FILES.includes(basename(path)) ? dirname(path) : null;
  if (folder === null) return { file: path };
  const present = await Promise.all(WEIGHT_FILES.map((name) => exists(join(folder, name))));
  const name = folder === path ? WEIGHT_FILES[present.indexOf(true)] : basename(path);
  if (name === undefined) {
    const sharded = await exists(join(folder, "model.safetensors.index.json"));
    throw new ConvertError(
      sharded
        ? `${folder}: its weights lie in several files, which is not supported; save the model again with max_shard_size="10GB"`
        : `${folder}: the folder has neither ${WEIGHT_FILES.join(" nor ")}; give a checkpoint file, or a folder that save_pretrained wrote`,
    );
  }
  const configFile = join(folder, "config.json");
  if (!(await exists(configFile))) return { file: join(folder, name) };
  return { file: join(folder, name), config: await readConfigFile(configFile) };
}

async function readConfigFile(path: string): Promise<Record<string, unknown>> {
  const { size } = await stat(path);
  if (size > LONGEST_CONFIG) throw new ConvertError(`${path}: it has ${size} bytes, and a configuration at most ${LONGEST_CONFIG}`);
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new ConvertError(`${path}: it is no JSON (${(error as Error).message}); fetch the file again`, { cause: error });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ConvertError(`${path}: it is no JSON object; fetch the file again`);
  }
  return fieldsOf(value);
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then((found) => found.isDirectory(), () => false);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(() => true, () => false);
}
