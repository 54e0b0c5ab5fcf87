/** Not a reader but a trap, for tests of the fuzzer: some inputs hang it, kill it or fill its memory. */
import type { FuzzTarget } from "../../scripts/fuzz/fuzzTarget.js";
import type { Random } from "../../scripts/fuzz/random.js";

export function plantedFault(random: Random): "hang" | "death" | "growth" | null {
  return ([null, "hang", "death", "growth"] as const)[random.below(60)] ?? null;
}

let grows = false;

export const target: FuzzTarget = {
  name: "planted",
  extension: "bin",
  writeFormat: "zip",
  input(random) {
    const fault = plantedFault(random);
    if (fault === "hang") for (;;);
    if (fault === "death") process.kill(process.pid, "SIGKILL");
    grows = fault === "growth";
    return {
      bytes: Buffer.from("bad"), strategy: "planted", options: { unknownGlobals: "error", tagFloats: false }, throughFile: false,
        writeBack: false,
    };
  },
  classify() {
    const memory = grows ? Buffer.alloc(100 * 2 ** 20, 1) : null;
    return { kind: `refused ${memory?.length ?? 0}`, depth: "container" };
  },
};
