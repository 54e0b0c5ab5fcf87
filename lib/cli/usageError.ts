/** The command line cannot mean anything: exit code 2. The message names the flag, its value, and what is allowed. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Errors of options, by their names: their classes need libtorch, which not every command loads. */
const optionErrors = ["OptionError", "DataOptionError", "ModelConfigError", "UnknownArchitectureError", "PlacementError"];

/** Errors that the command line is to blame for, so that they end with the exit code of wrong usage; others as they are. */
export function asUsageError(error: unknown): unknown {
  return error instanceof Error && optionErrors.includes(error.name) ? new UsageError(error.message, { cause: error }) : error;
}
