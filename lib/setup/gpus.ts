import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { hiddenGpus } from "../config.js";
import type { Check } from "./diagnose.js";
import { namesIn } from "./namesIn.js";
import { hasNvidiaDriver } from "./nvidiaDriver.js";

/** What this machine shows of NVIDIA's GPUs without any library of theirs. */
export interface GpuFacts {
  /** NVIDIA's display controllers on the PCI bus. */
  readonly cards: number;
  /** Models that the driver names. */
  readonly models: readonly string[];
  /** The driver's version, or null without one. */
  readonly driver: string | null;
  /** A driver in the kernel whose devices this process cannot reach, as in a container that was given none. */
  readonly unreachable: boolean;
  /** What `CUDA_VISIBLE_DEVICES` says where it hides every GPU, or null. */
  readonly hidden: string | null;
}

/** What happened when libtorch was asked for GPUs. */
export interface GpuTrial {
  readonly count: number;
  /** Why there are none, in CUDA's words, or null. */
  readonly failure: string | null;
}

/** Looks for GPUs. @param root for tests: a folder in place of / */
export function lookForGpus(root = "/"): GpuFacts {
  const read = (path: string): string => (existsSync(join(root, path)) ? readFileSync(join(root, path), "utf8") : "");
  const list = (path: string): string[] => namesIn(join(root, path));
  const pci = "sys/bus/pci/devices";
  const cards = list(pci).filter((each) => /^0x10de/.test(read(`${pci}/${each}/vendor`)) && /^0x03/.test(read(`${pci}/${each}/class`)));
  const named = "proc/driver/nvidia/gpus";
  const models = list(named).flatMap((each) => /^Model:\s*(.+?)\s*$/m.exec(read(`${named}/${each}/information`))?.[1] ?? []);
  const version = read("proc/driver/nvidia/version");
  const driver = version ? (/\s(\d+\.\d+(?:\.\d+)?)\s/.exec(version)?.[1] ?? "of unknown version") : root === "/" && hasNvidiaDriver() ? "of unknown version" : null;
  return { cards: cards.length, models, driver, unreachable: version !== "" && !existsSync(join(root, "dev/nvidiactl")), hidden: hiddenGpus() };
}

/**
 * Says which devices there are and, where CUDA is off, why.
 *
 * @param cpu description of the CPU
 * @param libtorch whether the libtorch in use has CUDA; null without one
 * @param trial what libtorch itself found, once it could be asked
 */
export function checkGpus(cpu: string, facts: GpuFacts, libtorch: { cuda: boolean; build: string } | null, trial: GpuTrial | null = null): Check {
  const { cards, models, driver, unreachable, hidden } = facts;
  const off = (why: string, fix: string): Check => ({ name: "devices", status: "optional", found: `${cpu}; CUDA is off: ${why}`, fix });
  const gpus = models.length > 0 ? `${models.join(", ")} (driver ${driver})` : `driver ${driver}`;
  if (trial !== null && trial.count > 0) {
    return { name: "devices", status: "ok", found: `${cpu}, ${trial.count === 1 ? "cuda:0" : `cuda:0 to cuda:${trial.count - 1}`}: ${gpus}` };
  }
  if (driver === null) {
    if (cards === 0) return { name: "devices", status: "ok", found: `${cpu}; CUDA is off: no NVIDIA GPU and no driver for one` };
    const why = `${cards} NVIDIA GPU${cards === 1 ? "" : "s"} on the PCI bus, but no driver (neither /proc/driver/nvidia/version nor /dev/nvidiactl)`;
    return off(why, "install NVIDIA's driver: https://www.nvidia.com/drivers");
  }
  if (unreachable) {
    return off(`${gpus} in the kernel, but there is no /dev/nvidiactl here, as in a container without GPUs`, "docker run --gpus all ...");
  }
  if (libtorch !== null && !libtorch.cuda) return off(`${gpus}, but libtorch ${libtorch.build} has no CUDA libraries`, "npx moco setup --cuda");
  if (hidden !== null) return off(`${gpus}, hidden by CUDA_VISIBLE_DEVICES="${hidden}"`, "unset CUDA_VISIBLE_DEVICES");
  if (trial === null) return { name: "devices", status: "ok", found: `${cpu}, cuda: ${gpus}` };
  const needed = /\+cu(\d+)(\d)$/.exec(libtorch?.build ?? "");
  const cuda = needed ? `CUDA ${needed[1]}.${needed[2]}` : "its CUDA";
  const why = `${gpus}; libtorch ${libtorch?.build ?? ""} is for ${cuda} and sees no GPU${trial.failure === null ? "" : ` (${trial.failure})`}`;
  return off(why, "nvidia-smi, which shows whether the driver works; where it is older than that CUDA needs, update it: https://www.nvidia.com/drivers");
}
