import { lstat, realpath } from "node:fs/promises";
import { join } from "node:path";

/** Something is where the result should go. */
export class OutputExistsError extends Error {
  override readonly name = "OutputExistsError";
}

/**
 * Refuses an output that exists, before anything is read. With `force` it may be replaced, but a file only by a file, and a folder only by
 * a folder where it holds a model.
 *
 * @throws OutputExistsError
 */
export async function checkOutput(input: string, output: string, force: boolean, folderWanted: boolean): Promise<void> {
  await refuseSame(input, output);
  const there = await lstat(output).catch(() => null);
  if (there === null) return;
  const refuse = (reason: string): never => {
    throw new OutputExistsError(`${output} ${reason}`);
  };
  if (!force) refuse("exists already; choose another name, or replace it with --force");
  if (there.isDirectory() && !folderWanted) refuse("is a folder; give the name of a file");
  if (!there.isDirectory() && folderWanted) refuse("is a file, and a Hugging Face model a folder; give another name");
  if (folderWanted && !(await lstat(join(output, "config.json")).catch(() => null))) {
    refuse("holds something else than a model (no config.json), so it is not replaced; give another name");
  }
}

/**
 * Refuses to overwrite the input, by whatever name.
 *
 * @throws OutputExistsError
 */
export async function refuseSame(input: string, output: string): Promise<void> {
  const [from, to] = await Promise.all([input, output].map((path) => realpath(path).catch(() => null)));
  if (from !== null && from === to) {
    throw new OutputExistsError(`${output} is the input itself, which is never overwritten; give another name`);
  }
}
