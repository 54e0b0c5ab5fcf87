import { homedir } from "node:os";
import { join } from "node:path";

/**
 * The words of a command line as the user means them: `help X` is `X --help`, and `~/` at the beginning of a word or of a flag's value is the
 * home folder, which shells expand in the first case only, and on Windows never. `./~` names a file that is called so.
 *
 * @example
 * meantWords(["help", "pretrain"]); // ["pretrain", "--help"]
 * meantWords(["--out=~/runs"]); // ["--out=/home/ada/runs"]
 */
export function meantWords(words: readonly string[], home = homedir()): string[] {
  const asked = words[0] === "help" ? [...words.slice(1), "--help"] : words;
  return asked.map((word) => {
    const match = /^(--[\w-]+=)?~(?:[/\\](.*))?$/s.exec(word);
    return match === null ? word : `${match[1] ?? ""}${match[2] === undefined ? home : join(home, match[2])}`;
  });
}
