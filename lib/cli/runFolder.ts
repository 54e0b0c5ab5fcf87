import { statSync } from "node:fs";
import { dirname, join } from "node:path";
import { programWords, shellLine, withoutFlags } from "./commandLine.js";

/**
 * Where a run writes if `--out` does not tell: on with the run that is resumed, or into a folder of its own.
 *
 * @param resume the flag's value; empty for none
 * @param name what the folder is called, before the time
 */
export function defaultFolder({ resume, name }: { resume: string; name: string }): string {
  if (resume !== "") {
    const folder = statSync(resume, { throwIfNoEntry: false })?.isDirectory() ? resume : dirname(resume);
    // A checkpoint of upstream lies among whatever else: its run begins a folder here.
    if (folder === resume || statSync(join(folder, "log.jsonl"), { throwIfNoEntry: false })) return folder;
  }
  const time = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
  return join("runs", `${name}-${time}`);
}

/**
 * The command that goes on with the run in `out`: this one, with another `--resume`.
 *
 * @param beginnings further flags with a value that only the beginning of a run has
 * @param again whether the same command goes on by itself
 */
export function resumeCommand(command: string, out: string, beginnings: readonly string[] = [], again = false): string {
  if (again) return shellLine([...programWords(), ...process.argv.slice(2)]);
  const words = withoutFlags(process.argv.slice(2), ["--resume", "--out", "--start-epoch", ...beginnings]);
  const at = words.indexOf(command) + 1;
  return shellLine([...programWords(), ...words.slice(0, at), "--resume", out, ...words.slice(at)]);
}
