import { statSync } from "node:fs";
import { dirname, join } from "node:path";
import { programWords, shellLine, withoutFlags } from "./commandLine.js";

/**
 * Where a run writes if `--out` does not tell: on with the run that is resumed, or into a folder of its own.
 *
 * @param resume what `--resume` says, or an empty string
 * @param name what the new folder's name begins with
 */
export function defaultFolder(resume: string, name: string): string {
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
 * @param command its name; @param beginnings flags that begin a run and so are left out
 */
export function resumeCommand(command: string, out: string, beginnings: readonly string[]): string {
  const words = withoutFlags(process.argv.slice(2), ["--resume", "--out", ...beginnings]);
  const at = words.indexOf(command) + 1;
  return shellLine([...programWords(), ...words.slice(0, at), "--resume", out, ...words.slice(at)]);
}
