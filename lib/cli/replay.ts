import type { Replay } from "../train/stability/replayStep.js";
import { ensureReady } from "../setup/index.js";
import { deviceOf } from "./trainingFlags.js";
import type { PretrainFlags } from "./pretrainFlags.js";
import { toJson } from "./toJson.js";

/** Exit code where the step came out finite. */
const NOT_AGAIN = 1;

/** `moco pretrain --replay FILE`: exit code 0 where the place was found, 1 where all is finite this time. */
export async function replay(flags: PretrainFlags, file: string): Promise<void> {
  await ensureReady();
  const { replayStep } = await import("../train/stability/replayStep.js");
  const { describeFigures } = await import("../train/stability/tensorFigures.js");
  const result = await replayStep(file, { device: deviceOf(flags), threads: flags.threads });
  if (result.finding === null && !result.update) process.exitCode = NOT_AGAIN;
  process.stdout.write(flags.json ? `${toJson(result)}\n` : `${lines(result, describeFigures).join("\n")}\n`);
}

function lines({ step, device, precision, images, loss, gradientNorm, weightNorm, finding, update }: Replay, figures: DescribeFigures): string[] {
  const head = [
    `step ${step} again, on ${device} in ${precision}: ${images.length} images, loss ${loss}, gradient norm ${gradientNorm}, weight norm ${weightNorm}`,
  ];
  if (finding === null) {
    return [...head, update
      ? "All values are finite: the update with this learning rate is what would overflow."
      : "All values are finite this time. Another device, number of threads or version may round otherwise; or the file was changed."];
  }
  const { pass, module, kind, operator, parameter, output, inputs } = finding;
  const name = module === "" ? `the contrast (${kind})` : `${module} (${kind})`;
  const what = pass === "forward"
    ? [`first result that is not finite: ${operator} in ${name}`, `  result  ${figures(output)}`]
    : [`first gradient that is not finite: of ${parameter ?? `what goes into ${name}`}, in the backward pass of ${name}`, `  gradient  ${figures(output)}`];
  const from = inputs.map((input) => `  ${pass === "forward" ? "from" : "gradient of its output"}  ${figures(input)}`);
  return [...head, ...what, ...from, `images: ${images.slice(0, 8).join(", ")}${images.length > 8 ? ", ..." : ""}`];
}

type DescribeFigures = typeof import("../train/stability/tensorFigures.js").describeFigures;
