import { Command, CommanderError, type OptionValues } from "commander";
import { ensureReady } from "../setup/index.js";
import { applyConfigFile } from "./configFile.js";
import { addFinetuneFlags } from "./finetuneFlags.js";
import { addLinclsFlags } from "./linclsFlags.js";
import { numberIn, wholeFrom } from "./numberOption.js";
import { addPretrainFlags } from "./pretrainFlags.js";
import { defaultFolder } from "./runFolder.js";
import { startProcesses } from "./startProcesses.js";
import { flag } from "./trainingFlags.js";
import { UsageError } from "./usageError.js";

interface LaunchFlags {
  nproc: number;
  nnodes: number;
  nodeRank: number;
  masterAddr?: string;
  masterPort?: number;
  maxRestarts: number;
  joinTimeout: number;
}

const EXAMPLES = `
What follows -- is a command of moco as it would be without launch. Exit code: 0, or that of the first process that failed.

Examples:
  $ moco launch --nproc 2 -- pretrain photos -a vit_small -b 256 --out runs/photos
  $ moco launch --nproc 8 --nnodes 2 --node-rank 0 --master-addr 10.0.0.1 --master-port 29500 --max-restarts 3 -- pretrain photos -b 4096`;

/** The commands that train over several processes: their flags, and what the folder of a run is called. */
const LAUNCHABLE: Record<string, { addFlags(command: Command): Command; name(flags: OptionValues): string }> = {
  pretrain: { addFlags: addPretrainFlags, name: ({ arch }) => String(arch) },
  lincls: { addFlags: addLinclsFlags, name: () => "lincls" },
  finetune: { addFlags: addFinetuneFlags, name: () => "finetune" },
};

/** `moco launch --nproc N -- COMMAND …` */
export function register(program: Command): void {
  const command = program
    .command("launch")
    .description("train with several processes, on one machine or several, and start them again when one dies")
    .argument("<command...>", `after --: one of ${Object.keys(LAUNCHABLE).join(", ")}, with its flags`)
    .addOption(flag("--nproc <n>", "processes on this machine: one for each GPU").argParser(wholeFrom(1, 1024)).makeOptionMandatory())
    .addOption(flag("--nnodes <n>", "machines; moco launch is to be started on each").argParser(wholeFrom(1, 4096)).default(1))
    .addOption(flag("--node-rank <k>", "number of this machine, from 0").argParser(wholeFrom(0)).default(0))
    .addOption(flag("--master-addr <host>", "machine 0 as the others reach it (default: this machine, for one machine)"))
    .addOption(flag("--master-port <port>", "a free TCP port of machine 0 (default: any, for one machine)").argParser(wholeFrom(1, 65535)))
    .addOption(flag("--max-restarts <n>", "begin again from the last step saved after so many failures").argParser(wholeFrom(0)).default(0))
    .addOption(flag("--join-timeout <seconds>", "how long all machines are waited for, also before a restart").argParser(numberIn({ least: 1 })).default(600))
    .addHelpText("after", EXAMPLES)
    .action(async (words: string[]) => {
      process.exitCode = await run(words, command.opts<LaunchFlags>());
    });
}

async function run(words: readonly string[], flags: LaunchFlags): Promise<number> {
  const { nproc, nnodes, nodeRank, masterAddr, masterPort, maxRestarts, joinTimeout } = flags;
  if (nodeRank >= nnodes) throw new UsageError(`--node-rank is ${nodeRank}, but --nnodes is ${nnodes}; number the machines from 0 to ${nnodes - 1}`);
  if (nnodes > 1 && (masterAddr === undefined || masterPort === undefined)) {
    throw new UsageError(`--nnodes is ${nnodes}: give --master-addr, machine 0 as the others reach it, and --master-port, a free port of it, the same on all`);
  }
  const folder = folderOf(words);
  await ensureReady(); // once, not in each process
  return startProcesses({
    words, folder, processes: nproc, nodes: nnodes, node: nodeRank, masterAddress: masterAddr, masterPort, maxRestarts, gatherMs: joinTimeout * 1000,
  });
}

/**
 * The folder for a run whose command line names none, or null where it does. Its flags are checked besides: what is wrong with them is told once,
 * not by each process.
 */
function folderOf([name, ...words]: readonly string[]): string | null {
  const launchable = LAUNCHABLE[name ?? ""];
  if (launchable === undefined) {
    throw new UsageError(`"${name}" is no command that trains with several processes; give one of ${Object.keys(LAUNCHABLE).join(", ")} after --`);
  }
  const command = launchable.addFlags(new Command(name)).argument("<data>").exitOverride();
  try {
    command.parse(words, { from: "user" });
  } catch (error) {
    // It has told what is wrong.
    if (error instanceof CommanderError) throw new CommanderError(2, error.code, error.message);
    throw error;
  }
  const { config } = command.opts<{ config?: string }>();
  if (config !== undefined) applyConfigFile(command, config);
  const flags = command.opts<{ out?: string; resume: string; evaluate?: boolean; eval?: boolean }>();
  if (flags.out !== undefined || flags.evaluate || flags.eval) return null;
  return defaultFolder({ resume: flags.resume, name: launchable.name(flags) });
}
