import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { runInNewContext } from "node:vm";
import { expect, test } from "@jest/globals";
import { inlineModules } from "../../lib/report/inlineModules.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const folder = temporaryFolder("inline");
const write = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

test("modules become one script: each once, after what it imports", () => {
  write("numbers.js", "export const two = 2;\nexport function twice(x) {\n    return two * x;\n}\n//# sourceMappingURL=numbers.js.map\n");
  write("words.js", 'import { two } from "./numbers.js";\nexport class Words {\n    text = `${two} </script>`;\n}\n');
  const entry = write("main.js", 'import lib from "lib";\nimport { twice } from "./numbers.js";\nimport { Words } from "./words.js";\nresult.push(twice(lib), new Words().text);\nexport {};\n');
  const script = inlineModules(entry, { lib: "var lib = 21;" });
  expect(script).not.toContain("</script>");
  const result: unknown[] = [];
  runInNewContext(script, { result });
  expect(result).toEqual([42, "2 </script>"]);
});

test("what a page could not run is refused", () => {
  const inline = (text: string): string => inlineModules(write("bad.js", text), {});
  expect(() => inline('import fs from "node:fs";\n')).toThrow(/imports node:fs, which the page does not have/);
  expect(() => inline("const a = 1;\nexport { a };\n")).toThrow(/cannot be inlined: export \{ a \}/);
  write("same.js", "export const a = 1;\n");
  expect(() => inline('import { a as b } from "./same.js";\nconst a = 2;\n')).toThrow(/both have a at their top/);
});
