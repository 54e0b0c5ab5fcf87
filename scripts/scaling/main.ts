/** Writes the tables of docs/scaling.md from the cost model and what was measured. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../lib/setup/packageRoot.js";
import { readConstants } from "./constants.js";
import { withTables } from "./page.js";
import { scalingTables } from "./tables.js";

const path = join(packageRoot, "docs/scaling.md");
writeFileSync(path, withTables(readFileSync(path, "utf8"), scalingTables(readConstants())));
