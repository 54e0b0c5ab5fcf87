/** Errors on their way from one thread to another, which the system's own copy would turn into plain ones. */
import { CheckpointError, ConvertError } from "../../checkpoint/index.js";
import { ModelConfigError } from "../../models/index.js";
import { StateDictError } from "../../nn/index.js";
import { CheckpointNotFoundError } from "../runs/checkpointFiles.js";
import { FeatureError } from "../features.js";
import { OptionError } from "../options.js";

export interface SentError {
  name: string;
  message: string;
  /** The error's own plain fields, such as a checkpoint's path. */
  fields: Record<string, string | number | null>;
}

/** What loading an encoder throws. */
const known: readonly (abstract new (...args: never[]) => Error)[] = [
  CheckpointError, CheckpointNotFoundError, ConvertError, FeatureError, ModelConfigError, OptionError, StateDictError,
];

export function toSent(error: unknown): SentError {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  const fields = Object.entries(error instanceof Error ? error : {}).filter(([key, value]) =>
    !["name", "message", "stack"].includes(key) && (value === null || ["string", "number"].includes(typeof value)));
  return { name, message, fields: Object.fromEntries(fields) as SentError["fields"] };
}

/** An error of the class that was sent, with the message and the fields that it had. */
export function fromSent({ name, message, fields }: SentError): Error {
  const error = Object.assign(new Error(message), fields);
  const type = known.find((each) => each.name === name);
  if (type !== undefined) Object.setPrototypeOf(error, type.prototype as object);
  Object.defineProperty(error, "name", { value: name, enumerable: false });
  return error;
}
