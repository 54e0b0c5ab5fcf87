import { BenchmarkError } from "./benchmarkError.js";
import type { Ask, Machine, Readiness, Side } from "./stepGpuProtocol.js";

/**
 * Asks each program, before anything is measured, whether it can do its part: minutes of a GPU are not for finding out row by row that a package is
 * missing.
 *
 * @throws {BenchmarkError} that names what is missing, and how to measure without it
 */
export async function checkSides(ask: Ask, sides: readonly Side[]): Promise<Machine> {
  const check = async (side: Side): Promise<{ side: Side; trouble?: string }> => {
    try {
      return { side, ...(await ask<Readiness>(side, { do: "check", side })) };
    } catch (error) {
      return { side, trouble: (error as Error).message.trim().split("\n").at(-1)! }; // of a Python traceback the last line tells
    }
  };
  const programs = await Promise.all(sides.filter((side) => side !== "compiled").map(check));
  const answers = sides.includes("compiled") ? [...programs, await check("compiled")] : programs; // its process is that of another side
  const troubles = answers.filter(({ trouble }) => trouble !== undefined);
  if (troubles.length > 0) {
    const others = sides.filter((side) => troubles.every((each) => each.side !== side));
    const without = others.length === 0 ? "" : `\nMend that, or measure without: --sides ${others.join(",")}`;
    throw new BenchmarkError(`step-gpu cannot begin.\n${troubles.map(({ side, trouble }) => `  ${side}: ${trouble}`).join("\n")}${without}`);
  }
  return await ask<Machine>("ours", { do: "machine" });
}
