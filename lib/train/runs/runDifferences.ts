import { PythonFloat } from "../../checkpoint/index.js";
import { savedOptions } from "../../optim/index.js";
import type { RunFacts } from "./ownPart.js";
import { ResumeError } from "./resumable.js";
import type { SavedRun } from "./savedRun.js";

type ComparedRun = Pick<SavedRun, "path" | "arch" | "position" | "facts" | "optimizer">;

/**
 * Compares a saved run with the one that should go on.
 *
 * @returns what differs, in words, where going on makes sense all the same
 * @throws ResumeError where it makes none: another architecture, or other batches in the middle of an epoch
 */
export function runDifferences(saved: ComparedRun, facts: RunFacts): string[] {
  const { path, position, facts: before } = saved;
  const { arch } = facts;
  if (saved.arch !== null && ![arch, saved.arch].includes("custom") && saved.arch !== arch) {
    throw new ResumeError(`${path} is of ${saved.arch}, and this run trains ${arch}; give --arch ${saved.arch}, or another checkpoint`);
  }
  const kept = keptOptions(saved.optimizer, facts.recipe);
  if (before === null) return kept;
  const differences = (a: object, b: object): string[] =>
    Object.entries(b).flatMap(([name, value]) => {
      const old = (a as Record<string, unknown>)[name];
      if (name === "recipe" || name === "arch" || plain(old) === plain(value)) return [];
      return [`${name} is ${plain(value)} and was ${plain(old)}`];
    });
  const data = differences(before, facts);
  if (position !== null && position.step > 0 && data.length > 0) {
    throw new ResumeError(
      `${path} is from the middle of an epoch, whose batches would be others now: ${data.join(", ")}. ` +
        "Give the same values, or resume from a checkpoint of a whole epoch",
    );
  }
  const recipe = differences(before.recipe, facts.recipe).filter((each) => !/^(weightDecay|momentum|betas) /.test(each));
  return [...data, ...recipe, ...kept];
}

/** As in PyTorch, loading an optimiser's state brings its options along; only the learning rate is set anew in each step. */
function keptOptions(optimizer: unknown, recipe: Record<string, unknown>): string[] {
  if (optimizer === null) return [];
  const saved = savedOptions(optimizer);
  return ["weightDecay", "momentum", "betas"]
    .filter((name) => name in saved && name in recipe && plain(saved[name]) !== plain(recipe[name]))
    .map((name) => `${name} is ${plain(recipe[name])} and was ${plain(saved[name])}, which the saved optimiser keeps`);
}

/** Values as they compare and print; whole numbers beyond 2^53 come back from a file as BigInts, Python's whole floats tagged. */
function plain(value: unknown): string {
  const isNumber = (each: unknown): boolean => typeof each === "bigint" || each instanceof PythonFloat;
  return JSON.stringify(value, (_, each: unknown) => (isNumber(each) ? Number(each) : each)) ?? "unset";
}
