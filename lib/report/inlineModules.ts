import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";

/** A page's script cannot be made of its modules. */
export class InlineError extends Error {
  override readonly name = "InlineError";
}

/**
 * Compiled modules as one script that a page can hold: each once, after those that it imports. Names at the top of modules must differ,
 * as the script has one scope.
 *
 * @param entry path of the first module
 * @param packages for each package that is imported, its script, which must define what is imported as a global of that name
 */
export function inlineModules(entry: string, packages: Record<string, string>): string {
  const done = new Set<string>();
  const names = new Map<string, string>();
  const parts: string[] = Object.values(packages);
  const body: string[] = [];
  const add = (path: string): void => {
    if (done.has(path)) return;
    done.add(path);
    const source = readFileSync(path, "utf8").replace(/^\/\/# sourceMappingURL=.*$/m, "");
    const own = source.replace(/^import\s[^;]*?from "([^"]+)";$/gm, (line, from: string) => {
      if (from.startsWith(".")) add(resolve(dirname(path), from));
      else if (!Object.hasOwn(packages, from)) throw new InlineError(`${path} imports ${from}, which the page does not have: ${line}`);
      return "";
    }).replace(/^export \{\};$/m, "").replace(/^export (?=(async )?(function|class|const|let)\b)/gm, "");
    const left = /^(import|export)\b.*/m.exec(own);
    if (left !== null) throw new InlineError(`${path} has what cannot be inlined: ${left[0]}`);
    for (const [, name] of own.matchAll(/^(?:async )?(?:function|class|const|let) (\w+)/gm)) {
      if (names.has(name!)) throw new InlineError(`${path} and ${names.get(name!)} both have ${name} at their top; give one of them another name`);
      names.set(name!, path);
    }
    body.push(own.trim());
  };
  add(entry);
  const script = [...parts, `(() => {\n"use strict";\n${body.join("\n")}\n})();`].join("\n");
  // The end of a script element must not be in it.
  return script.replaceAll("</", "<\\/");
}
