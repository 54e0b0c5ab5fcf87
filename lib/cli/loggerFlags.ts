import type { Option } from "commander";
import type { RunLogger } from "../report/index.js";
import type { LoggingOptions } from "../train/runs/logging.js";
import { flag, whole } from "./trainingFlags.js";
import { UsageError } from "./usageError.js";

/** Parsed flags about who hears of a training, under commander's names; true for one without a value. */
export interface LoggerFlags {
  tensorboard?: string | boolean;
  csv?: string | boolean;
  mlflow?: string | boolean;
  logImages: number;
  logHistograms: number;
}

export function loggerFlags(): Option[] {
  return [
    flag("--tensorboard [dir]", "also write TensorBoard's event files (default: into the run's folder)"),
    flag("--csv [file]", "also write the numbers as a table (default: log.csv in the run's folder)"),
    flag("--mlflow [uri]", "also send the numbers to this MLflow server (default: MLFLOW_TRACKING_URI)"),
    whole("--log-images <n>", "epochs from one picture of a batch in these logs to the next; 0: none", 0).default(10),
    whole("--log-histograms <n>", "epochs from one set of histograms of weights in these logs to the next; 0: none", 0).default(1),
  ];
}

/**
 * The loggers that the flags ask for; they open nothing before the training begins.
 *
 * @throws UsageError for an address that is none of an MLflow server
 */
export async function loggersOf({ tensorboard, csv, mlflow, logImages, logHistograms }: LoggerFlags): Promise<Required<LoggingOptions>> {
  const loggers: RunLogger[] = [];
  if (isAsked(tensorboard) || isAsked(csv) || isAsked(mlflow)) {
    const { CsvLogger, MlflowLogger, TensorBoardLogger } = await import("../report/index.js");
    if (isAsked(tensorboard)) loggers.push(new TensorBoardLogger({ folder: valueOf(tensorboard) }));
    if (isAsked(csv)) loggers.push(new CsvLogger({ file: valueOf(csv) }));
    if (isAsked(mlflow)) {
      try {
        loggers.push(new MlflowLogger({ uri: valueOf(mlflow) }));
      } catch (error) {
        throw new UsageError(`--mlflow: ${(error as Error).message}`, { cause: error });
      }
    }
  }
  return { loggers, logImagesEvery: logImages, logHistogramsEvery: logHistograms };
}

function isAsked(value: string | boolean | undefined): value is string | true {
  return value !== undefined && value !== false;
}

function valueOf(value: string | true): string | undefined {
  return value === true ? undefined : value;
}
