import { execFileSync } from "node:child_process";
import { statfs } from "node:fs/promises";
import { availableParallelism, cpus, totalmem } from "node:os";
import { dirname } from "node:path";
import process from "node:process";

/** What a training can have of this machine. */
export interface MachineFacts {
  cpu: string;
  /** That this process may use. */
  cores: number;
  /** The machine's memory, or what a control group leaves this process, in bytes. */
  memoryBytes: number;
  /** Of it not in use now. */
  availableBytes: number;
}

export interface GpuFacts {
  name: string;
  memoryBytes: number;
  availableBytes: number;
}

export function machineFacts(): MachineFacts {
  // Node.js answers with a number near 2^64 where there is no limit.
  const memoryBytes = Math.min(totalmem(), process.constrainedMemory() || Infinity);
  return {
    cpu: cpus()[0]?.model.trim() ?? "CPU",
    cores: availableParallelism(),
    memoryBytes,
    availableBytes: Math.min(memoryBytes, process.availableMemory()),
  };
}

/** What NVIDIA's driver tells of a GPU, counted as it counts them; null where its program is not there. */
export function gpuFacts(index: number): GpuFacts | null {
  try {
    const words = ["--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits", `--id=${index}`];
    return parseGpuFacts(execFileSync("nvidia-smi", words, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  } catch {
    return null;
  }
}

/** @param line name, and MiB in all and free, with commas between */
export function parseGpuFacts(line: string): GpuFacts | null {
  const [name, total, free] = line.trim().split("\n")[0]!.split(",").map((part) => part.trim());
  const [memoryBytes, availableBytes] = [total, free].map((mebibytes) => 2 ** 20 * Number(mebibytes));
  return name && memoryBytes! > 0 && availableBytes! >= 0 ? { name, memoryBytes: memoryBytes!, availableBytes: availableBytes! } : null;
}

/** Bytes that a folder, or the nearest one above it that is there, has room for; and that folder. */
export async function freeDisk(folder: string): Promise<{ folder: string; bytes: number }> {
  for (let there = folder; ; there = dirname(there)) {
    try {
      const { bavail, bsize } = await statfs(there);
      return { folder: there, bytes: bavail * bsize };
    } catch (error) {
      if (there === dirname(there)) throw error;
    }
  }
}
