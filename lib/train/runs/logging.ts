import type { ProcessGroup } from "../../distributed/index.js";
import type { RunLogger } from "../../report/index.js";
import { OptionError, requireWhole } from "../options.js";

/** Options of a training about who hears of it. */
export interface LoggingOptions {
  /**
   * Who hears what the training tells, besides `log.jsonl` in its folder: `TensorBoardLogger`, `CsvLogger`, `MlflowLogger`, or your own. They
   * do not change the weights, and what fails in them ends no training. Only the first of several processes logs.
   */
  loggers?: readonly RunLogger[];
  /** Epochs from one picture of some images of a batch, as the network sees them, to the next; 0: none. Default 10. */
  logImagesEvery?: number;
  /** Epochs from one set of histograms of weights and features to the next; 0: none. Default 1. */
  logHistogramsEvery?: number;
}

/** The same with defaults filled in; what it has is not part of what a run is. */
export interface Logging {
  loggers: readonly RunLogger[];
  imagesEvery: number;
  histogramsEvery: number;
}

/**
 * @param options of the training; `group` are the processes that train together
 * @throws OptionError
 */
export function resolveLogging(options: LoggingOptions & { group?: ProcessGroup }): Logging {
  const { loggers = [], logImagesEvery = 10, logHistogramsEvery = 1, group } = options;
  requireWhole("logImagesEvery", logImagesEvery, 0);
  requireWhole("logHistogramsEvery", logHistogramsEvery, 0);
  for (const logger of loggers) {
    if (typeof (logger as RunLogger | undefined)?.log !== "function") {
      throw new OptionError("loggers has one without a method log(entry); give objects such as new CsvLogger(), or see docs/logging.md for your own");
    }
  }
  const leads = group === undefined || group.rank === 0;
  return { loggers: leads ? loggers : [], imagesEvery: logImagesEvery, histogramsEvery: logHistogramsEvery };
}
