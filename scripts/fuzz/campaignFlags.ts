import { cpus } from "node:os";
import { InvalidArgumentError, type Command } from "commander";

/** Flags that every fuzzer has, under commander's names. */
export interface CampaignFlags {
  minutes: number;
  inputs: number;
  seed: number;
  from: number;
  workers: number;
  input?: number;
  save?: string;
  record: boolean;
}

/** Adds them to a fuzzer's command. `saved` is what `--save` tells of the input that it writes. */
export function addCampaignFlags(command: Command, saved: string): Command {
  return command
    .option("--minutes <n>", "how long", number, 1)
    .option("--inputs <n>", "stop after so many inputs", number, Infinity)
    .option("--seed <n>", "another seed gives other inputs", number, 1)
    .option("--from <n>", "number of the first input", number, 0)
    .option("--workers <n>", "processes", number, cpus().length)
    .option("--no-record", "write no record")
    .option("--input <n>", "run only this input of the seed, and tell what it does")
    .option("--save <file>", `with --input: write the input there${saved}`);
}

/** A flag's number. */
export function number(text: string): number {
  const value = Number(text);
  if (text === "" || !(value >= 0)) throw new InvalidArgumentError("expected a number from 0");
  return value;
}
