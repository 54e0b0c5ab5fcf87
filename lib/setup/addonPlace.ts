import { existsSync } from "node:fs";
import { join } from "node:path";
import { isAddonFresh } from "./buildAddon.js";
import { packageRoot } from "./packageRoot.js";
import { ADDON_FILES, CUDA_ADDON, findPrebuilt, findPrebuiltCuda } from "./prebuilt.js";
import type { LibtorchLocation } from "./torchFolder.js";

/** Where the addon is that serves a libtorch. */
export interface AddonPlace {
  /** Folder of {@link ADDON_FILES}. */
  readonly folder: string;
  /** Built here, or installed by npm. */
  readonly source: "build" | "package";
  /** The CUDA addon, or null. */
  readonly cuda: string | null;
}

/** Where the addon is built. */
export const buildFolder = join(packageRoot, "build", "Release");

/**
 * The addon for a libtorch: one that was built here from these sources for it, else the one that npm has installed, else one that was built here and may
 * be out of date.
 *
 * @returns null if there is none
 */
export function findAddon(libtorch: LibtorchLocation): AddonPlace | null {
  const packaged = findPrebuilt(libtorch);
  const built = ADDON_FILES.every((file) => existsSync(join(buildFolder, file)));
  if (built && (packaged === null || isAddonFresh(libtorch))) return { folder: buildFolder, source: "build", cuda: existing(join(buildFolder, CUDA_ADDON)) };
  return packaged === null ? null : { folder: packaged, source: "package", cuda: findPrebuiltCuda(libtorch) };
}

function existing(file: string): string | null {
  return existsSync(file) ? file : null;
}
