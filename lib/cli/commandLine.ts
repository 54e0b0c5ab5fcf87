import { basename, dirname, relative } from "node:path";

/** The words that started this process, as a user types them: `moco`, `npx moco`, or `node` and the script's path. */
export function programWords(script = process.argv[1] ?? "moco", folder = process.cwd()): string[] {
  if (basename(script) === "moco") return basename(dirname(script)) === ".bin" ? ["npx", "moco"] : ["moco"];
  return ["node", relative(folder, script) || script];
}

/**
 * Command-line words without some flags and their values.
 *
 * @param flags long names of flags that take a value: `["--resume"]` removes `--resume x` and `--resume=x`
 */
export function withoutFlags(words: readonly string[], flags: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    if (word === "--") return [...kept, ...words.slice(i)];
    if (flags.includes(word)) i++;
    else if (!flags.includes(word.split("=", 1)[0]!)) kept.push(word);
  }
  return kept;
}

/** Words as one line for a POSIX shell, quoted where need be. */
export function shellLine(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`)).join(" ");
}
