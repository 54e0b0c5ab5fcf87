import type { Tensor } from "../torch/index.js";

/** Parameters and buffers by PyTorch's dotted key, in its order. */
export type StateDict = Map<string, Tensor>;

/** What a lenient load left out: keys the model has and the state lacks, and the reverse. Both are empty after a strict load. */
export interface LoadResult {
  missing: string[];
  unexpected: string[];
}

/** A state dict does not fit a module. */
export class StateDictError extends Error {
  override readonly name = "StateDictError";

  constructor(
    message: string,
    readonly missing: string[],
    readonly unexpected: string[],
    readonly mismatched: { key: string; expected: number[]; found: number[] }[],
  ) {
    super(message);
  }
}

/** How many keys of each kind an error message shows; the error's fields hold all of them. */
const SHOWN = 12;

/** Compares keys and shapes before anything is copied. See `Module.loadStateDict`. */
export function checkStateDict(
  moduleName: string,
  own: ReadonlyMap<string, Tensor>,
  state: ReadonlyMap<string, Tensor>,
  strict: boolean,
): LoadResult {
  const missing = [...own.keys()].filter((key) => !state.has(key));
  const unexpected = [...state.keys()].filter((key) => !own.has(key));
  const mismatched: StateDictError["mismatched"] = [];
  for (const [key, tensor] of own) {
    const source = state.get(key);
    if (source === undefined) continue;
    const [expected, found] = [tensor.shape, source.shape];
    if (expected.length !== found.length || expected.some((size, i) => size !== found[i])) mismatched.push({ key, expected, found });
  }
  const faults: string[] = [];
  if (strict && missing.length > 0) faults.push(`missing: ${listed(missing)}`);
  if (strict && unexpected.length > 0) faults.push(`unexpected: ${listed(unexpected)}`);
  if (mismatched.length > 0) {
    faults.push(`other shape: ${listed(mismatched.map((m) => `${m.key} is [${m.expected}] in the model, [${m.found}] in the state`))}`);
  }
  if (faults.length > 0) {
    const remedy =
      mismatched.length > 0
        ? "Build the model with the sizes of the checkpoint, or delete these keys from the state and load with { strict: false }."
        : "Load a checkpoint of this architecture (is there a prefix such as \"module.\"?), or pass { strict: false } to take what fits.";
    throw new StateDictError(
      `The state does not fit ${moduleName}:\n  ${faults.join("\n  ")}\n${remedy}`, missing, unexpected, mismatched,
    );
  }
  return { missing, unexpected };
}

function listed(items: string[]): string {
  const more = items.length > SHOWN ? ` and ${items.length - SHOWN} more` : "";
  return `${items.slice(0, SHOWN).join(", ")}${more} (${items.length})`;
}
