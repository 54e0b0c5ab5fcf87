import { randomUUID } from "node:crypto";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";

const CHUNK = 4 * 2 ** 20;

/**
 * Bytes a second that reach the disk under a folder: a file is written, made durable as a checkpoint is, and removed.
 *
 * @param bytes of the file at most
 * @param seconds after which no more is written
 */
export async function measureDisk(folder: string, { bytes = 2 ** 26, seconds = 1 } = {}): Promise<number> {
  const path = join(folder, `.moco-plan-${randomUUID()}`);
  const chunk = Buffer.alloc(CHUNK, 0x5a);
  const start = performance.now();
  const elapsed = (): number => (performance.now() - start) / 1000;
  let written = 0;
  try {
    const file = await open(path, "wx");
    try {
      for (; written < bytes && elapsed() < seconds; written += CHUNK) await file.write(chunk);
      await file.sync();
    } finally {
      await file.close();
    }
    return written / elapsed();
  } finally {
    await rm(path, { force: true });
  }
}
