import { statSync } from "node:fs";
import { dirname, join } from "node:path";
import { namesIn } from "../setup/namesIn.js";
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
 * The command that goes on with the run in `out`: this one, with another `--resume`; or just as it is, where nothing is saved there.
 *
 * @param beginnings further flags with a value that only the beginning of a run has
 * @param again whether the same command goes on by itself
 */
export function resumeCommand(command: string, out: string, beginnings: readonly string[] = [], again = false): string {
  if (again || !holdsCheckpoint(out)) return shellLine([...programWords(), ...process.argv.slice(2)]);
  const words = withoutFlags(process.argv.slice(2), ["--resume", "--out", "--start-epoch", ...beginnings]);
  const at = words.indexOf(command) + 1;
  return shellLine([...programWords(), ...words.slice(0, at), "--resume", out, ...words.slice(at)]);
}

/**
 * What a run that was stopped has left behind, and how to go on, in sentences.
 *
 * @param checkpoint what this process saved, or null
 * @param command see {@link resumeCommand}
 */
export function afterStop(checkpoint: string | null, out: string, command: string): string {
  if (checkpoint !== null) return `Everything is saved in ${checkpoint}.\nGo on with:\n  ${command}`;
  if (holdsCheckpoint(out)) return `There is nothing new to save.\nGo on with:\n  ${command}`;
  return "Nothing is saved yet; give the same command again.";
}

function holdsCheckpoint(out: string): boolean {
  return namesIn(out).some((name) => name.endsWith(".pth.tar"));
}
