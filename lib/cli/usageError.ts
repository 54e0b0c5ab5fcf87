/** The command line cannot mean anything: exit code 2. The message names the flag, its value, and what is allowed. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
