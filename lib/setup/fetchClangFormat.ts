import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Config, readConfig } from "../config.js";
import { install, withCacheLock } from "./fetchLibtorch.js";
import { downloadWheels } from "./pipDownload.js";
import { wheelsFor } from "./wheels.js";

/**
 * The path of the pinned clang-format, fetched into the cache if it is not there. Only the lint uses it: every version
 * formats a little differently, so the one of the system will not do.
 */
export async function fetchClangFormat(config: Config = readConfig()): Promise<string> {
  const { tags, clangFormat } = wheelsFor();
  const folder = join(config.cache, `clang-format-${clangFormat.version}`);
  const program = join(folder, "clang_format", "data", "bin", "clang-format");
  if (existsSync(program)) return program;
  await withCacheLock(config, async () => {
    if (existsSync(program)) return;
    const archives = await downloadWheels(config, [clangFormat], tags, join(config.cache, "downloads"));
    const manifest = { version: clangFormat.version, cuda: false, archives: [{ file: clangFormat.file, sha256: clangFormat.sha256 }] };
    await install(config, archives, folder, manifest, (path) => !path.endsWith(".py"));
  });
  return program;
}
