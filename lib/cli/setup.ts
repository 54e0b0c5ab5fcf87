import type { Command } from "commander";
import { type Config, readConfig } from "../config.js";
import { buildAddon, ensureReady, fetchCudaHeaders, fetchLibtorch, findLibtorch, hasCudaHeaders, installArchive, type LibtorchLocation } from "../setup/index.js";
import { UsageError } from "./usageError.js";

interface SetupFlags {
  readonly archive?: string[];
  readonly cuda?: boolean;
  readonly force?: boolean;
  readonly rebuild?: boolean;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ moco setup                                        fetch what is missing, build the addon
  $ moco setup --cuda                                 with CUDA, whether or not this machine has a driver
  $ moco setup --rebuild                              build the addon again, as after installing libjpeg-turbo
  $ moco setup --archive libtorch-shared-2.11.0.zip   without a network
  $ moco setup --archive torch.whl --archive nvidia_cuda_runtime.whl --archive nvidia_cuda_cupti.whl`;

/** `moco setup` */
export function register(program: Command): void {
  program
    .command("setup")
    .description("find or fetch libtorch, and build the addon for it; does nothing if all is up to date")
    .option("--cuda", "fetch libtorch with its CUDA libraries, and build the CUDA addon (default: where an NVIDIA driver is found)")
    .option("--no-cuda", "fetch libtorch without its CUDA libraries")
    .option("--archive <file>", "install libtorch from this zip or wheel; may be given several times", collect)
    .option("--force", "fetch libtorch again even if it is there")
    .option("--rebuild", "build the addon again even if it is up to date")
    .option("--json", "print what is used as JSON")
    .addHelpText("after", EXAMPLES)
    .action(async (flags: SetupFlags) => {
      const libtorch = await setUp(readConfig(), flags);
      const { version, root, source, cuda } = libtorch;
      const line = flags.json ? JSON.stringify({ version, root, source, cuda }) : `Ready: libtorch ${version} at ${root}, addon built`;
      process.stdout.write(`${line}\n`);
    });
}

async function setUp(config: Config, flags: SetupFlags): Promise<LibtorchLocation> {
  if (flags.archive === undefined && flags.cuda === undefined && !flags.force) return await ensureReady(config, flags);
  const named = config.libtorch ?? config.usePytorch;
  if (named && flags.cuda && !flags.archive && !flags.force) return await buildFor(config, findLibtorch(config), flags);
  if (named) {
    const variable = config.libtorch ? "LIBTORCH" : "LIBTORCH_USE_PYTORCH";
    throw new UsageError(`${variable} is set, so a libtorch in the cache would not be used; unset it, or run \`moco setup\` without flags`);
  }
  if (flags.archive && (flags.cuda !== undefined || flags.force)) {
    throw new UsageError("--archive installs what the archive holds: it goes with neither --cuda nor --force");
  }
  return await buildFor(config, flags.archive ? await installArchive(config, flags.archive) : await fetchLibtorch(config, flags), flags);
}

async function buildFor(config: Config, libtorch: LibtorchLocation, flags: SetupFlags): Promise<LibtorchLocation> {
  if (flags.cuda && !hasCudaHeaders(config, libtorch)) await fetchCudaHeaders(config);
  await buildAddon(config, libtorch, { rebuild: flags.rebuild, cuda: flags.cuda });
  return libtorch;
}

function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}
