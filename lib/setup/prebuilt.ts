import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { installedPackage } from "./installedPackage.js";
import type { LibtorchLocation } from "./torchFolder.js";

/** The platforms that packages with binaries are published for, as npm names them. */
const PACKAGED_PLATFORMS: readonly string[] = ["linux-x64"];

/** The addon's files; the first one is loaded, the second one loads libtorch before it. */
export const ADDON_FILES = ["moco.node", "moco_loader.node"] as const;
/** The file for what needs CUDA's own types. */
export const CUDA_ADDON = "moco_cuda.node";

/** Name of the npm package with binaries for a platform, such as `@moco-v3/linux-x64` or `@moco-v3/linux-x64-cuda`. */
export function binaryPackage({ platform = process.platform as string, arch = process.arch as string, cuda = false } = {}): string {
  return `@moco-v3/${platform}-${arch}${cuda ? "-cuda" : ""}`;
}

/** Folder in such a package for a libtorch: binaries fit one version only. */
export function binaryFolder(version: string): string {
  return `libtorch-${version}`;
}

/** Where a package is, or null; replaced in tests. */
type FindPackage = (name: string) => string | null;

/**
 * The folder with the addon that npm has installed for this platform and this libtorch.
 *
 * @returns null where no package was installed, as on a platform without one, or with `npm install --omit=optional`; or it has nothing for this libtorch
 */
export function findPrebuilt({ version }: Pick<LibtorchLocation, "version">, findPackage: FindPackage = installedPackage): string | null {
  const root = findPackage(binaryPackage());
  const folder = root === null ? null : join(root, binaryFolder(version));
  return folder !== null && ADDON_FILES.every((file) => existsSync(join(folder, file))) ? folder : null;
}

/** The CUDA addon that npm has installed for this platform and this libtorch, or null. */
export function findPrebuiltCuda({ version }: Pick<LibtorchLocation, "version">, findPackage: FindPackage = installedPackage): string | null {
  const root = findPackage(binaryPackage({ cuda: true }));
  const file = root === null ? null : join(root, binaryFolder(version), CUDA_ADDON);
  return file !== null && existsSync(file) ? file : null;
}

/** Why no binary that npm has installed, or could have, serves a libtorch: one sentence, for messages. */
export function whyNoPrebuilt({ version }: Pick<LibtorchLocation, "version">, findPackage: FindPackage = installedPackage): string {
  const platform = `${process.platform}-${process.arch}`;
  if (!PACKAGED_PLATFORMS.includes(platform)) {
    return `moco-v3 comes with binaries for ${PACKAGED_PLATFORMS.join(", ")} only, not for ${platform}`;
  }
  const root = findPackage(binaryPackage());
  if (root === null) return `the package with binaries, ${binaryPackage()}, is not installed (npm leaves it out with --omit=optional; install without that)`;
  const versions = readdirSync(root).filter((name) => name.startsWith("libtorch-")).map((name) => name.slice("libtorch-".length));
  return `${binaryPackage()} has binaries for libtorch ${versions.join(", ") || "of no version"}, not ${version}`;
}
