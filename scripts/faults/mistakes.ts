import { join } from "node:path";
import { putInPlace, writeFile, type FileLayer } from "../../lib/checkpoint/files/durableFile.js";
import { checkpointName, LAST_CHECKPOINT } from "../../lib/train/runs/checkpointFiles.js";
import { CheckpointFolder } from "../../lib/train/runs/checkpointFolder.js";
import { pointTo } from "../../lib/train/runs/checkpointPointer.js";
import { superseded, type Retention } from "../../lib/train/runs/checkpointRetention.js";
import { ours, writePieces, type Writer } from "./writers.js";

export interface Mistake {
  /** What the campaign must find. */
  caughtAs: RegExp;
  writer: Writer;
}

/** Our writer with some file operations replaced. */
function oursWith(caughtAs: RegExp, replaced: (files: FileLayer) => Partial<FileLayer>): Mistake {
  return { caughtAs, writer: (folder, retention, files) => ours(folder, retention, changed(files, replaced(files))) };
}

/** Our writer with another retention than it was asked for. */
function retaining(caughtAs: RegExp, wrong: (right: Retention) => Retention): Mistake {
  return { caughtAs, writer: (folder, retention, files) => ours(folder, wrong(retention), files) };
}

interface Save {
  /** Path of the checkpoint, its folder and its name. */
  path: string;
  folder: string;
  name: string;
  bytes: Uint8Array;
  retention: Retention;
  files: FileLayer;
}

/** A writer that puts the parts of ours together in its own way. */
function other(caughtAs: RegExp, save: (save: Save) => Promise<void>): Mistake {
  const writer: Writer = async (folder, retention, files) => {
    await CheckpointFolder.open(folder, { files }); // leftovers are no mistake of this writer
    return {
      save(position, bytes) {
        const name = checkpointName(position);
        return save({ path: join(folder, name), folder, name, bytes, retention, files });
      },
    };
  };
  return { caughtAs, writer };
}

const nothing = async (): Promise<void> => {};

async function write({ path, bytes, files }: Save): Promise<void> {
  await writeFile(path, (sink) => writePieces(bytes, (piece) => sink.write(piece)), files);
}

async function writeSafely(save: Save): Promise<void> {
  await putInPlace(save.path, (path) => write({ ...save, path }), save.files);
}

async function prune({ folder, name, retention, files }: Save): Promise<void> {
  for (const each of superseded(await files.list(folder), name, retention)) await files.remove(join(folder, each));
}

/** Writers with one mistake each. A campaign that does not catch every one of them is worth nothing. */
export const MISTAKES: Readonly<Record<string, Mistake>> = {
  "no fsync of the data": oursWith(/ does not load$/, (files) => ({
    create: async (path) => ({ ...(await files.create(path)), sync: nothing }),
  })),
  "no fsync of the folder": oursWith(/^last.pth.tar (does not load|is lost|leads to)/, () => ({ syncFolder: nothing })),
  "takes a short write for a whole one": oursWith(/ does not load$/, (files) => ({
    async create(path) {
      const file = await files.create(path);
      return { ...file, write: async (bytes) => (await file.write(bytes), bytes.byteLength) };
    },
  })),
  "leaves temporary files behind": oursWith(/ is left behind$/, (files) => ({
    list: async (folder) => (await files.list(folder)).filter((name) => !name.endsWith(".tmp")),
  })),
  "writes in place": other(/^checkpoint_.* does not load$/, async (save) => {
    if ((await save.files.look(save.path)) !== null) await save.files.remove(save.path);
    await write(save);
    await save.files.syncFolder(save.folder);
    await pointTo(save.folder, save.name, save.files);
    await prune(save);
  }),
  "points before it writes": other(/^last.pth.tar does not load$/, async (save) => {
    await pointTo(save.folder, save.name, save.files);
    await writeSafely(save);
    await prune(save);
  }),
  "removes the old pointer before it makes the new one": other(/^last.pth.tar is lost$/, async (save) => {
    await writeSafely(save);
    const pointer = join(save.folder, LAST_CHECKPOINT);
    if ((await save.files.look(pointer)) !== null) await save.files.remove(pointer);
    await save.files.symlink(save.name, pointer);
    await save.files.syncFolder(save.folder);
    await prune(save);
  }),
  "prunes before it points": other(/^checkpoint_.* is lost$/, async (save) => {
    await writeSafely(save);
    await prune(save);
    await pointTo(save.folder, save.name, save.files);
  }),
  "prunes before the pointer is safe": other(/^checkpoint_.* is lost$/, async (save) => {
    await writeSafely(save);
    await pointTo(save.folder, save.name, changed(save.files, { syncFolder: nothing }));
    await prune(save);
    await save.files.syncFolder(save.folder);
  }),
  "writes through the pointer": other(/^checkpoint_.* has the content of/, async (save) => {
    const pointer = join(save.folder, LAST_CHECKPOINT);
    await writeSafely(save);
    if ((await save.files.look(pointer)) === null) await pointTo(save.folder, save.name, save.files);
    else await writeSafely({ ...save, path: await save.files.resolve(pointer) });
  }),
  "keeps one too few": retaining(/^checkpoint_.* is lost$/, ({ keep, ...rest }) => ({ ...rest, keep: keep! - 1 })),
  "keeps one too many": retaining(/should have been removed$/, ({ keep, ...rest }) => ({ ...rest, keep: keep! + 1 })),
  "removes those that are kept for ever": retaining(/^checkpoint_.* is lost$/, ({ keep }) => ({ keep })),
};

/** The same layer with some operations replaced; the others keep their `this`. */
function changed(files: FileLayer, operations: Partial<FileLayer>): FileLayer {
  return new Proxy(files, {
    get: (target, name) =>
      operations[name as keyof FileLayer] ?? (target[name as keyof FileLayer] as (...all: unknown[]) => unknown).bind(target),
  });
}
