import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { ConfigError, readConfig } from "../../lib/config.js";

test("an empty environment gives the defaults", () => {
  const config = readConfig({});
  expect(config).toMatchObject({ libtorch: null, usePytorch: false, python: null, cuda: null, quiet: false, debug: false });
  expect(config.cache.endsWith(join("moco-v3"))).toBe(true);
});

test("folders are made absolute, empty variables count as unset", () => {
  const config = readConfig({ LIBTORCH: "libs/torch", MOCO_CACHE: "", XDG_CACHE_HOME: "/scratch" });
  expect(config.libtorch).toBe(join(process.cwd(), "libs/torch"));
  expect(config.cache).toBe(join("/scratch", "moco-v3"));
});

test.each([["1", true], ["true", true], ["ON", true], ["0", false], ["no", false]])("switch %s", (value, expected) => {
  expect(readConfig({ LIBTORCH_USE_PYTORCH: value, MOCO_CUDA: value })).toMatchObject({ usePytorch: expected, cuda: expected });
});

test("a switch that is neither on nor off is named", () => {
  expect(() => readConfig({ MOCO_QUIET: "maybe" })).toThrow(ConfigError);
  expect(() => readConfig({ MOCO_QUIET: "maybe" })).toThrow("MOCO_QUIET=maybe is neither on nor off; set it to 1 or 0, or unset it");
});
