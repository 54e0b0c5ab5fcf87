/** Time between two drawings of the line, in milliseconds. */
const interval = 100;

/** A line on a terminal's standard error that counts, such as `features 512/1,437`; nothing where standard error is no terminal. */
export class CountingLine {
  #drawn = -Infinity;
  #width = 0;

  constructor(private readonly quiet: boolean, private readonly stream: NodeJS.WriteStream = process.stderr) {}

  show(what: string, done: number, total: number): void {
    const now = performance.now();
    if (this.quiet || !this.stream.isTTY || (now - this.#drawn < interval && done < total)) return;
    this.#drawn = now;
    const line = `${what} ${done.toLocaleString("en")}/${total.toLocaleString("en")}`;
    this.stream.write(`\r${line.padEnd(this.#width)}`);
    this.#width = line.length;
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#width > 0) this.stream.write(`\r${" ".repeat(this.#width)}\r`);
    this.#width = 0;
  }
}
