#!/usr/bin/env node
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command, CommanderError } from "commander";
import pc from "picocolors";
import { launched, readConfig } from "../config.js";
import { EXIT_PEER_FAILED } from "../distributed/launch/exitCodes.js";
import { holdLifeline } from "../distributed/launch/lifeline.js";
import { isTooOld, tooOld } from "../setup/nodeVersion.mjs";
import { systemRemedy } from "./systemErrors.js";
import { UsageError } from "./usageError.js";
import { meantWords } from "./words.js";

/**
 * What a file `lib/cli/<command>.ts` exports: it adds its command, with description, flags, an example and an action.
 * Only the file of the command that was asked for is loaded; one whose action needs libtorch awaits `ensureReady()` from
 * lib/setup in it, and imports what builds on libtorch after that.
 */
export interface CommandFile {
  register(program: Command): void;
}

const COMMANDS = [
  "setup", "doctor", "demo", "pretrain", "lincls", "finetune", "launch", "knn", "embed", "search", "dedup", "convert", "inspect", "report",
  "bench",
] as const;

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** Runs a command line (without `node` and the script) and answers its exit code: 0, 1 (failed), 2 (wrong usage) or 75 (a peer failed). */
export async function main(words: readonly string[]): Promise<number> {
  if (isTooOld(process.versions.node)) {
    process.stderr.write(`${pc.red("error:")} ${tooOld(process.versions.node)}\n`);
    return EXIT_FAILED;
  }
  const args = meantWords(words);
  const program = new Command("moco")
    .description("MoCo v3: train image encoders on unlabelled images, evaluate and use them")
    .version(readVersion())
    .helpCommand(false)
    .enablePositionalOptions() // a command's flags are its own, whatever commands it has in turn
    .showHelpAfterError("(moco --help lists the commands, moco COMMAND --help its flags)")
    .addHelpText("after", "\nExample:\n  $ moco demo --out demo-run");
  try {
    const files = COMMANDS.filter((name) => existsSync(fileURLToPath(commandUrl(name))));
    const asked = files.find((name) => name === args[0]);
    for (const name of asked ? [asked] : files) {
      const { register } = (await import(commandUrl(name).href)) as CommandFile;
      register(program);
    }
    for (const command of withSubcommands(program)) command.exitOverride();
    if (args.length === 0) {
      program.outputHelp({ error: true });
      return EXIT_USAGE;
    }
    await program.parseAsync(args, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    return explain(error);
  }
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}

function commandUrl(name: string): URL {
  return new URL(`./${name}.js`, import.meta.url);
}

function readVersion(): string {
  const file = new URL("../../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

function explain(error: unknown): number {
  // Commander has printed its own message, which for --help and --version is the result.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  const remedy = systemRemedy(error);
  process.stderr.write(`${pc.red("error:")} ${message}${remedy === null ? "" : `. ${remedy}`}\n`);
  if (error instanceof UsageError) return EXIT_USAGE;
  // By its name: its class needs libtorch.
  if (error instanceof Error && error.name === "CollectiveError") return EXIT_PEER_FAILED;
  if (debugWanted()) process.stderr.write(`${stack}\n`);
  return EXIT_FAILED;
}

function debugWanted(): boolean {
  try {
    return readConfig().debug;
  } catch {
    return false; // the environment itself may be what is wrong
  }
}

// `moco inspect FILE | head` ends the reader first; that is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});
if (launched()) holdLifeline();
process.exitCode = await main(process.argv.slice(2));
