import { existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { buildAddon, isAddonFresh } from "../../lib/setup/buildAddon.js";
import { BuildError } from "../../lib/setup/errors.js";
import { inspectTorchFolder } from "../../lib/setup/torchFolder.js";
import { configFor, fakeLibtorch, temporaryFolder, write } from "./fakeTorch.js";

// A project of two empty libraries in plain C: what is tested is when it is built, and what is said when it is not.
const root = temporaryFolder("build");
const config = configFor(join(root, "cache"));
const addon = join(root, "build", "Release", "moco.node");
const libtorch = inspectTorchFolder(fakeLibtorch(join(root, "libtorch"), { zip: "2.11.0" }), "LIBTORCH");

beforeAll(() => {
  write(join(root, "package.json"), JSON.stringify({ name: "small", binary: { napi_versions: [8] } }));
  write(join(root, "native", "addon.c"), "int moco(void) { return 1; }\n");
  write(
    join(root, "CMakeLists.txt"),
    `cmake_minimum_required(VERSION 3.22)
project(small LANGUAGES C)
foreach(name moco moco_loader)
  add_library(\${name} SHARED native/addon.c)
  set_target_properties(\${name} PROPERTIES PREFIX "" SUFFIX ".node")
endforeach()
file(WRITE \${CMAKE_BINARY_DIR}/given.txt "\${MOCO_TORCH_VERSION}|\${MOCO_TORCH_LIB}|\${MOCO_TORCH_INCLUDE}")
`,
  );
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

test("builds once, and again only when a source or libtorch changes", async () => {
  expect(isAddonFresh(libtorch, { root })).toBe(false);
  await Promise.all([buildAddon(config, libtorch, { root }), buildAddon(config, libtorch, { root })]);
  expect(isAddonFresh(libtorch, { root })).toBe(true);
  expect(readFileSync(join(root, "build", "given.txt"), "utf8")).toBe(`2.11.0|${libtorch.libDir}|${libtorch.includeDirs.join(";")}`);
  const built = statSync(addon).mtimeMs;
  await buildAddon(config, libtorch, { root });
  expect(statSync(addon).mtimeMs).toBe(built);
  // The build finds nothing to link again, but CMake has looked for its libraries anew.
  rmSync(join(root, "build", "given.txt"));
  await buildAddon(config, libtorch, { root, rebuild: true });
  expect(existsSync(join(root, "build", "given.txt"))).toBe(true);
  expect(isAddonFresh(libtorch, { root })).toBe(true);

  const other = inspectTorchFolder(fakeLibtorch(join(root, "other"), { zip: "2.12.0" }), "LIBTORCH");
  expect(isAddonFresh(other, { root })).toBe(false);
  write(join(root, "native", "addon.c"), "int moco(void) { return 2; }\n");
  expect(isAddonFresh(libtorch, { root })).toBe(false);
});

test("a compiler's error is shown, and the addon does not count as built until it is mended", async () => {
  write(join(root, "native", "addon.c"), "int moco(void) { return nothing; }\n");
  const error: unknown = await buildAddon(config, libtorch, { root }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(BuildError);
  expect((error as Error).message).toMatch(/The addon did not build:[^]*nothing[^]*moco setup/);
  expect(existsSync(join(root, "build", "addon.log"))).toBe(true);
  expect(isAddonFresh(libtorch, { root })).toBe(false);
  write(join(root, "native", "addon.c"), "int moco(void) { return 3; }\n");
  await buildAddon(config, libtorch, { root });
  expect(isAddonFresh(libtorch, { root })).toBe(true);
});
