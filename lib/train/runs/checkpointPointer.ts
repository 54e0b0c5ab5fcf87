import { join } from "node:path";
import { errorCode, putInPlace, writeFile, type FileLayer } from "../../checkpoint/files/durableFile.js";
import { LAST_CHECKPOINT } from "./checkpointFiles.js";

/** What the system answers where it has no symbolic or no hard links, or the user may not make any. */
const NO_LINKS: readonly unknown[] = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"];

/**
 * Moves a folder's `last.pth.tar` to the checkpoint `name`, at once and for good: before, it leads to the old checkpoint, after to
 * the new one, whenever the program or the machine stops. It is a relative symbolic link, so the folder may be moved and copied. Where
 * there are none (Windows without developer mode, some network and memory-card file systems), it is a second name of the file, else
 * a copy.
 *
 * The checkpoint itself must be safe from a power cut already.
 */
export async function pointTo(folder: string, name: string, files: FileLayer): Promise<void> {
  const checkpoint = join(folder, name);
  let temporary = "";
  let linked = false;
  await putInPlace(join(folder, LAST_CHECKPOINT), async (path) => {
    temporary = path;
    if (await permitted(() => files.symlink(name, path))) return;
    linked = await permitted(() => files.link(checkpoint, path));
    if (linked) return;
    await writeFile(path, async (sink) => {
      for await (const bytes of files.read(checkpoint)) await sink.write(bytes);
    }, files);
  }, files);
  // Renaming one name of a file to another of the same file does nothing, and leaves both.
  if (linked) await files.remove(temporary).catch(() => undefined);
}

/** Name of the checkpoint that `last.pth.tar` is a link to; null where it is none, or is not there. */
export async function pointedTo(folder: string, files: FileLayer): Promise<string | null> {
  try {
    return await files.readLink(join(folder, LAST_CHECKPOINT));
  } catch (error) {
    // EINVAL: a file. UNKNOWN: what Windows says then.
    if (["ENOENT", "EINVAL", "UNKNOWN"].includes(errorCode(error) ?? "")) return null;
    throw error;
  }
}

async function permitted(make: () => Promise<void>): Promise<boolean> {
  try {
    await make();
    return true;
  } catch (error) {
    if (NO_LINKS.includes(errorCode(error))) return false;
    throw error;
  }
}
