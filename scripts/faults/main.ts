/** `npm run faults -- NAME`: campaigns that stop trainings in every way, and look at what becomes of them. */
import { Command } from "commander";
import { registerDistributed } from "./distributed/command.js";
import { registerSoak } from "./soak/command.js";

const program = new Command("faults").description("Stops trainings in every way, and looks at what becomes of them.");
registerDistributed(program);
registerSoak(program);
await program.parseAsync();
