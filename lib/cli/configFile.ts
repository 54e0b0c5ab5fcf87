import { readFileSync } from "node:fs";
import { type Command, InvalidArgumentError, type Option } from "commander";
import { UsageError } from "./usageError.js";

/**
 * Takes flags that the command line does not give from a JSON file, whose keys are flags without their dashes:
 * `{ "arch": "vit_small", "batch-size": 256, "moco-m-cos": true }`.
 *
 * @throws UsageError for a file that is not such an object, a key that is no flag, or a value that the flag does not take
 */
export function applyConfigFile(command: Command, path: string): void {
  for (const [key, value] of Object.entries(readObject(path))) {
    const option = command.options.find(({ short, long }) => long === `--${key}` || (short === `--${key}` && key.length > 1));
    if (option === undefined || key === "config") {
      const names = command.options.map(({ long }) => long?.slice(2)).join(", ");
      throw new UsageError(`${path}: "${key}" is no flag of ${command.name()}; the flags are ${names}`);
    }
    if (command.getOptionValueSource(option.attributeName()) === "cli") continue;
    command.setOptionValueWithSource(option.attributeName(), parse(option, value, `${path}: "${key}"`), "config");
  }
}

function readObject(path: string): Record<string, unknown> {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const reason = (error as Error).message;
    throw new UsageError(`--config ${path} cannot be used: ${reason}; give a JSON file with flags as keys`, { cause: error });
  }
  if (typeof content === "object" && content !== null && !Array.isArray(content)) return content as Record<string, unknown>;
  throw new UsageError(`--config ${path} holds no object; write flags as keys, such as {"arch": "vit_small", "batch-size": 256}`);
}

/** The value as the command line would give it. */
function parse(option: Option, value: unknown, where: string): unknown {
  if (option.optional && typeof value === "boolean") return value;
  if (option.isBoolean()) {
    if (typeof value === "boolean") return value;
    throw new UsageError(`${where} is ${JSON.stringify(value)}; it is a switch and takes true or false`);
  }
  if (typeof value !== "string" && typeof value !== "number") {
    throw new UsageError(`${where} is ${JSON.stringify(value)}; it takes a number or a string`);
  }
  if (option.parseArg === undefined) return String(value);
  try {
    return option.parseArg(String(value), undefined);
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw new UsageError(`${where} is ${JSON.stringify(value)}. ${error.message}`);
    throw error;
  }
}
