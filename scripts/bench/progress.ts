/** Tells on stderr how a benchmark goes; its result goes to stdout. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
