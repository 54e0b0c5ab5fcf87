/**
 * Preloaded into a process and its threads (`node --import diskJournal.js?folder=…&journal=…&shadow=…`): writes down which files the process
 * makes, renames, removes and fsyncs in a folder, so that it is known afterwards what a power cut may take away. Every new file gets a second
 * name in `shadow`, under which it outlives being replaced and removed.
 */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { basename, dirname, join, resolve } from "node:path";
import { threadId } from "node:worker_threads";

/** One line of the journal; names are those in the folder. */
export type JournalEntry =
  /** A file was opened, under a number of its process and thread. `node`: it is new, and this is its name in `shadow`. */
  | { op: "open"; handle: string; name: string; node: string | null }
  /** `size` bytes of an open file are safe. */
  | { op: "sync"; handle: string; size: number }
  | { op: "rename"; from: string; to: string }
  | { op: "symlink"; name: string; target: string }
  | { op: "link"; existing: string; name: string }
  | { op: "unlink"; name: string }
  /** The folder was fsynced. */
  | { op: "syncFolder" };

const parameters = new URL(import.meta.url).searchParams;
const folder = resolve(parameters.get("folder")!);
const shadow = parameters.get("shadow")!;
const file = fs.openSync(parameters.get("journal")!, "a");
const handles = new Map<number, string>();
const { existsSync, fstatSync, linkSync, openSync, writeSync } = fs;
let count = 0;

function write(entry: JournalEntry): void {
  writeSync(file, `${JSON.stringify(entry)}\n`);
}

/** The name of a path in the folder, or null. */
function nameOf(path: unknown): string | null {
  return typeof path === "string" && dirname(resolve(path)) === folder ? basename(path) : null;
}

function opened(fd: number, name: string, isNew: boolean): void {
  const handle = `${process.pid}.${threadId}.${count++}`;
  if (isNew) linkSync(join(folder, name), join(shadow, handle));
  handles.set(fd, handle);
  write({ op: "open", handle, name, node: isNew ? handle : null });
}

function synced(fd: number, size: number): void {
  const handle = handles.get(fd);
  if (handle !== undefined) write({ op: "sync", handle, size });
}

fs.openSync = ((path: string, ...rest: [string]) => {
  const name = nameOf(path);
  const isNew = name !== null && !existsSync(path);
  const fd = openSync(path, ...rest);
  handles.delete(fd); // the system gives numbers again
  if (name !== null) opened(fd, name, isNew);
  return fd;
}) as typeof fs.openSync;

const { fsyncSync, fdatasync } = fs;
fs.fsyncSync = (fd) => {
  const { size } = fstatSync(fd);
  fsyncSync(fd);
  synced(fd, size);
};
fs.fdatasync = ((fd: number, done: fs.NoParamCallback) => {
  const { size } = fstatSync(fd);
  fdatasync(fd, (error) => {
    if (!error) synced(fd, size);
    done(error);
  });
}) as typeof fs.fdatasync;

const { open, rename, symlink, link, unlink } = fs.promises;
fs.promises.open = async (path, ...rest) => {
  const name = nameOf(path);
  const isFolder = typeof path === "string" && resolve(path) === folder;
  const isNew = name !== null && !existsSync(path);
  const handle = await open(path, ...rest);
  if (!isFolder && name === null) return handle;
  const { fd } = handle;
  if (name !== null) opened(fd, name, isNew);
  for (const call of ["sync", "datasync"] as const) {
    const original = handle[call].bind(handle);
    handle[call] = async () => {
      const { size } = fstatSync(fd);
      await original();
      if (isFolder) write({ op: "syncFolder" });
      else synced(fd, size);
    };
  }
  return handle;
};
fs.promises.rename = async (from, to) => {
  await rename(from, to);
  if (nameOf(to) !== null) write({ op: "rename", from: basename(String(from)), to: basename(String(to)) });
};
fs.promises.symlink = async (target, path, type) => {
  await symlink(target, path, type);
  if (nameOf(path) !== null) write({ op: "symlink", name: basename(String(path)), target: String(target) });
};
fs.promises.link = async (existing, path) => {
  await link(existing, path);
  if (nameOf(path) !== null) write({ op: "link", existing: basename(String(existing)), name: basename(String(path)) });
};
fs.promises.unlink = async (path) => {
  await unlink(path);
  if (nameOf(path) !== null) write({ op: "unlink", name: basename(String(path)) });
};
syncBuiltinESMExports();
