import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ADDON_FILES, binaryFolder, binaryPackage, CUDA_ADDON } from "../../lib/setup/prebuilt.js";

/** Binaries that were built for one libtorch. */
export interface Binaries {
  /** Folder with moco.node and moco_loader.node, and perhaps moco_cuda.node. */
  folder: string;
  /** Of libtorch, such as `2.11.0`. */
  version: string;
}

/** What the published packages are made of. */
export interface Sources {
  /** The checkout, compiled. */
  root: string;
  binaries: readonly Binaries[];
  /** Licences of what is in the binaries. */
  notices: string;
}

interface Manifest {
  version: string;
  license: string;
  engines: Record<string, string>;
  files: string[];
  optionalDependencies: Record<string, string>;
  devDependencies?: unknown;
  overrides?: unknown;
  scripts?: unknown;
  [key: string]: unknown;
}

/**
 * Lays out the packages of this platform in folders of their own, ready for `npm pack`: binaries for the CPU, for CUDA if they were built, and the main
 * package, which has those as optional dependencies of its own version.
 *
 * @returns the folders; the main package's comes last, so that what it depends on is published first
 */
export function assemblePackages({ root, binaries, notices }: Sources, out: string): string[] {
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Manifest;
  rmSync(out, { recursive: true, force: true });
  const cuda = binaries.filter(({ folder }) => existsSync(join(folder, CUDA_ADDON)));
  const platforms = [
    binaryFiles(binaryPackage(), "The native addon of moco-v3 for the CPU", binaries, ADDON_FILES),
    ...(cuda.length === 0 ? [] : [binaryFiles(binaryPackage({ cuda: true }), "The part of moco-v3's native addon that needs CUDA: graphs, kernels, NCCL", cuda, [CUDA_ADDON])]),
  ];
  const folders = platforms.map(({ name, description, versions, files }) => {
    const folder = join(out, name.slice(1).replace("/", "-"));
    for (const [from, to] of files) {
      mkdirSync(join(folder, to, ".."), { recursive: true });
      copyFileSync(from, join(folder, to));
    }
    writeJson(join(folder, "package.json"), {
      name, version: manifest.version, description: `${description} (${process.platform} ${process.arch}, libtorch ${versions.join(", ")})`, license: manifest.license,
      engines: manifest.engines, os: [process.platform], cpu: [process.arch], ...(process.platform === "linux" ? { libc: ["glibc"] } : {}),
      files: [...versions.map((version) => `${binaryFolder(version)}/`), "THIRD-PARTY-NOTICES"], preferUnplugged: true, publishConfig: { access: "public" },
      ...(manifest.repository === undefined ? {} : { repository: manifest.repository }),
    });
    writeFileSync(join(folder, "README.md"), `# ${name}\n\n${description}. Install \`moco-v3\`: npm then chooses the package that fits.\n`);
    writeFileSync(join(folder, "THIRD-PARTY-NOTICES"), notices);
    copyFileSync(join(root, "LICENSE"), join(folder, "LICENSE"));
    return folder;
  });
  return [...folders, mainPackage(root, manifest, platforms.map(({ name }) => name), join(out, "moco-v3"))];
}

interface PlatformFiles {
  name: string;
  description: string;
  /** Of libtorch: the CUDA addon may have been built for fewer than the first. */
  versions: string[];
  files: [from: string, to: string][];
}

function binaryFiles(name: string, description: string, binaries: readonly Binaries[], names: readonly string[]): PlatformFiles {
  const files = binaries.flatMap(({ folder, version }) => names.map((file): [string, string] => [join(folder, file), join(binaryFolder(version), file)]));
  return { name, description, versions: binaries.map(({ version }) => version), files };
}

// What a checkout alone needs stays out of the published package.json.
function mainPackage(root: string, manifest: Manifest, platforms: readonly string[], folder: string): string {
  const { devDependencies: _, overrides: _overrides, scripts: _scripts, ...published } = manifest;
  mkdirSync(folder, { recursive: true });
  for (const file of manifest.files.filter((each) => !each.startsWith("!"))) cpSync(join(root, file), join(folder, file), { recursive: true });
  for (const file of ["README.md", "LICENSE"]) copyFileSync(join(root, file), join(folder, file));
  const binaries = Object.fromEntries(platforms.map((name) => [name, manifest.version]));
  writeJson(join(folder, "package.json"), { ...published, optionalDependencies: { ...manifest.optionalDependencies, ...binaries } });
  return folder;
}

function writeJson(file: string, value: unknown): void {
  writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
}
