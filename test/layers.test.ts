import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "@jest/globals";
import { layerViolations } from "../scripts/layers.js";
import { temporaryFolder } from "./support/temporaryFolder.js";

const folder = temporaryFolder("layers");

function write(path: string, source: string): void {
  mkdirSync(join(folder, path, ".."), { recursive: true });
  writeFileSync(join(folder, path), source);
}

test("lib imports only downwards", () => {
  expect(layerViolations(fileURLToPath(new URL("../../lib", import.meta.url)))).toEqual([]);
});

test("an import that goes up is named, whatever its form", () => {
  write("nn/linear.ts", 'import type { ViT } from "../models/vit.js";\nconst late = () => import("../train/pretrain.js");\n');
  write("nn/good.ts", 'import { Tensor } from "../torch/index.js";\nimport { join } from "node:path";\nexport * from "./linear.js";\n');
  write("stray.ts", "");
  write("index.ts", 'export * from "./cli/main.js";\n');
  expect(layerViolations(folder).sort()).toEqual([
    "lib/nn/linear.ts imports ../models/vit.js: nn is below models",
    "lib/nn/linear.ts imports ../train/pretrain.js: nn is below train",
    "lib/stray.ts is in no layer: add stray to LAYERS, or move it",
  ]);
});
