/** What the workflows run is there. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { packageRoot } from "../../lib/setup/packageRoot.js";

const folder = join(packageRoot, ".github", "workflows");
const { scripts } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { scripts: Record<string, string> };

test.each(readdirSync(folder))("%s runs scripts of package.json, and brings CUDA's headers before the tests, which compile against them", (file) => {
  const text = readFileSync(join(folder, file), "utf8");
  const commands = [...text.matchAll(/run: (?:.*&& )?(npm (?:run )?[\w:-]+)/g)].map(([, command]) => command!);
  expect(commands.length).toBeGreaterThan(0);
  for (const command of commands) expect(Object.keys(scripts)).toContain(command.replace(/^npm (run )?/, ""));
  expect(commands.indexOf("npm run cuda-headers")).toBeGreaterThanOrEqual(0);
  expect(commands.indexOf("npm run cuda-headers")).toBeLessThan(commands.indexOf("npm test"));
});
