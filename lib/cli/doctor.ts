import type { Command } from "commander";
import pc from "picocolors";
import { readConfig } from "../config.js";
import { type Check, checkCudaAddon, checkDevices, checkJpeg, diagnose, findLibtorch, type GpuTrial } from "../setup/index.js";

const SIGNS = { ok: pc.green("✓"), missing: pc.red("✗"), optional: pc.yellow("–") };

/** `moco doctor` */
export function register(program: Command): void {
  program
    .command("doctor")
    .description("show what was found (Node, libtorch, addon, devices, cache, tools), and for what is missing the command that mends it")
    .option("--json", "print the findings as JSON")
    .addHelpText("after", "\nExample:\n  $ moco doctor")
    .action(async (flags: { json?: boolean }) => {
      const { checks } = diagnose();
      const addon = checks.findIndex((each) => each.name === "addon");
      if (checks[addon]!.status === "ok") checks.splice(addon, 1, ...(await tryAddon(checks[addon]!)));
      const trial = checks.some((each) => each.name === "jpeg") ? await tryGpus() : null;
      if (trial) checks.splice(checks.findIndex((each) => each.name === "devices"), 1, checkDevices(undefined, trial));
      const cuda = checks.findIndex((each) => each.name === "cuda addon");
      if (cuda >= 0 && trial && trial.count > 0) checks.splice(cuda, 1, checkCudaAddon(readConfig(), findLibtorch(), await tryCudaAddon()));
      const ready = checks.every((each) => each.status !== "missing");
      process.stdout.write(flags.json ? `${JSON.stringify({ ready, checks }, null, 2)}\n` : format(checks, ready));
      if (!ready) process.exitCode = 1;
    });
}

// Only loading it shows whether the linker finds everything, and what it was built with.
async function tryAddon(check: Check): Promise<Check[]> {
  try {
    const { native } = await import("../native.js");
    return [check, checkJpeg(native.jpegVersion())];
  } catch (error) {
    return [{ name: "addon", status: "missing", found: (error as Error).message.split("\n")[0]!, fix: "npx moco setup" }];
  }
}

async function tryCudaAddon(): Promise<{ nccl: string } | { failure: string }> {
  try {
    const { cudaAddon } = await import("../native/cuda.js");
    return { nccl: cudaAddon().ncclVersion() };
  } catch (error) {
    return { failure: (error as Error).message.split("\n")[0]! };
  }
}

// Only asking libtorch shows whether driver and CUDA fit each other.
async function tryGpus(): Promise<GpuTrial> {
  const torch = await import("../torch/index.js");
  const count = torch.cudaDeviceCount();
  if (count > 0) return { count, failure: null };
  try {
    torch.empty([1], { device: "cuda" }).dispose();
    return { count, failure: null };
  } catch (error) {
    return { count, failure: (error as Error).message.split("\n")[0]!.replace(/^aten::\S+: /, "") };
  }
}

function format(checks: readonly Check[], ready: boolean): string {
  const width = Math.max(...checks.map((each) => each.name.length));
  const lines = checks.flatMap((each) => {
    const line = `${SIGNS[each.status]} ${each.name.padEnd(width)}  ${each.found}`;
    return each.fix ? [line, `  ${" ".repeat(width)}  → ${pc.bold(each.fix)}`] : [line];
  });
  const verdict = ready ? "Everything that is needed is there." : "Something is missing; the arrows show what mends it.";
  return `${lines.join("\n")}\n\n${verdict}\n`;
}
