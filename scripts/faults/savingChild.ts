/**
 * A process that saves checkpoints until it is killed, on a real disk, and tells on its standard output what it does:
 * `begin NAME NUMBER` before each save and `saved NAME` after it. Its argument is a `ChildTask` as JSON.
 */
import { readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { diskFiles, type FileLayer } from "../../lib/checkpoint/files/durableFile.js";
import { checkpointName, checkpointsIn, positionOf, type Position } from "../../lib/train/runs/checkpointFiles.js";
import type { Retention } from "../../lib/train/runs/checkpointRetention.js";
import type { Scenario } from "./scenarios.js";
import { systemError } from "./simulatedDisk.js";
import type { Writer } from "./writers.js";

export interface ChildTask {
  folder: string;
  /** Folder of checkpoints 1 to `contents`, whole. */
  contentsFolder: string;
  contents: number;
  /** Number of the first that is saved. */
  first: number;
  retention: Retention;
  links: Scenario["links"];
  /**
   * What writes the files: `writeDurably` from bytes that lie ready, `writeCheckpoint`, or `BackgroundWriter`. With the latter two the
   * process takes longer to start.
   */
  writer: "durable" | "whole" | "background";
}

const STEPS = 2;

async function main(task: ChildTask): Promise<void> {
  const { folder, retention, contents } = task;
  const run = await (await writerOf(task))(folder, retention, limited(task.links));
  const furthest = checkpointsIn(folder).at(-1);
  let position: Position = furthest === undefined ? { epoch: 0, step: 0 } : positionOf(furthest)!;
  for (let number = task.first; ; number = (number % contents) + 1) {
    const bytes = readFileSync(join(task.contentsFolder, `${number}.pth`));
    position = position.step < STEPS ? { epoch: position.epoch, step: position.step + 1 } : { epoch: position.epoch + 1, step: 0 };
    const name = checkpointName(position);
    writeSync(1, `begin ${name} ${number}\n`);
    await run.save(position, bytes, number);
    writeSync(1, `saved ${name}\n`);
  }
}

/** Loads libtorch only where it is needed. */
async function writerOf({ writer }: ChildTask): Promise<Writer> {
  if (writer === "durable") return (await import("./writers.js")).ours;
  const { wholeWriter, backgroundWriter } = await import("./wholeWriter.js");
  return writer === "whole" ? wholeWriter() : backgroundWriter();
}

/** The disk as a file system without symbolic links, or without any, shows it. */
function limited(links: Scenario["links"]): FileLayer {
  const refuse = (call: string) => async (): Promise<never> => { throw systemError("EPERM", call); };
  return {
    ...diskFiles,
    ...(links === "symbolic" ? {} : { symlink: refuse("symlink") }),
    ...(links === "none" ? { link: refuse("link") } : {}),
  };
}

await main(JSON.parse(process.argv[2]!) as ChildTask);
