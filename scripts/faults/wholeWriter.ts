import { BackgroundWriter } from "../../lib/checkpoint/index.js";
import { CheckpointFolder } from "../../lib/train/runs/checkpointFolder.js";
import { saveNumber, valueOf } from "./checkpointContents.js";
import type { Writer } from "./writers.js";

/** The package's own way, the file written by the writer of checkpoints in its own pieces. */
export function wholeWriter(elements?: number): Writer {
  return async (path, retention, files) => {
    const folder = await CheckpointFolder.open(path, { ...retention, files });
    return { save: (position, _bytes, number) => folder.save(position, (target) => saveNumber(target, number, { files, elements })) };
  };
}

/** As a training saves: a thread of its own writes the file, with the operations of the real disk. */
export function backgroundWriter(elements?: number): Writer {
  return async (path, retention, files) => {
    const folder = await CheckpointFolder.open(path, { ...retention, files });
    const background = new BackgroundWriter();
    return {
      save: (position, _bytes, number) => folder.save(position, async (target) => {
        const { value, weight } = valueOf(number, elements);
        const { done } = await background.save(target, value).finally(() => weight.dispose());
        // It would tell of a failure again at the next save.
        await done.finally(() => background.flush().catch(() => undefined));
      }),
      close: () => background.close(),
    };
  };
}
