import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { FileSource } from "../../lib/checkpoint/byteSource.js";
import { CheckpointError } from "../../lib/checkpoint/error.js";
import { defaultLimits } from "../../lib/checkpoint/limits.js";
import { parseCheckpoint } from "../../lib/checkpoint/parse.js";
import { fixturePath, readJson } from "../support/fixtures.js";

interface Case {
  file: string;
  category: string;
  why: string;
}

const { cases } = readJson<{ cases: Case[] }>("unsafe/expected.json");

/** What each error must say, besides being one: the global, the limit or the fault by name. */
const reasons: Record<string, RegExp> = {
  "01_zip_reduce_os_system.pth": /os\.system/,
  "02_legacy_global_eval.pth": /builtins\.eval/,
  "03_zip_stack_global_exec.pth": /builtins\.exec/,
  "04_zip_functools_partial.pth": /functools\.partial/,
  "05_zip_copyreg_nested.pth": /(copyreg|copy_reg)\._reconstructor/,
  "06_zip_truncated.pth": /no end-of-directory record/,
  "07_legacy_truncated.pth": /beyond the end of the file/,
  "08_zip_bomb_claims_4gib.pth": /compressed/,
  "09_zip_tensor_beyond_storage.pth": /reaches element 999999/,
  "10_zip_negative_size.pth": /-\d/,
  "11_zip_deep_nesting.pth": /nested|inside each other/,
  "12_zip_billion_laughs.pth": /leaves/,
  "13_zip_wrong_crc.pth": /CRC-32/,
  "14_zip_path_traversal.pth": /climbs out|absolute|backslash/,
  "15_zip_no_data_pkl.pth": /no data\.pkl/,
  "16_bare_pickle_reduce.pth": /os\.system/,
};

async function readAll(path: string): Promise<unknown> {
  const source = await FileSource.open(path);
  try {
    const parsed = await parseCheckpoint(source, { limits: defaultLimits, unknownGlobals: "error", tagFloats: false });
    for (const { reference, load } of parsed.storages) await load([new Uint8Array(reference.byteLength)]);
    return parsed.value;
  } finally {
    await source.close();
  }
}

describe("hostile and damaged files", () => {
  let folder: string;
  let before: string;

  beforeEach(async () => {
    before = process.cwd();
    folder = await mkdtemp(join(tmpdir(), "moco-unsafe-"));
    process.chdir(folder);
  });

  afterEach(async () => {
    process.chdir(before);
    await rm(folder, { recursive: true });
  });

  test.each(cases)("$file: $why", async ({ file }) => {
    const path = fixturePath(`unsafe/${file}`);
    const started = performance.now();
    const memory = process.memoryUsage().rss;
    const error: unknown = await readAll(path).then(() => null, (reason: unknown) => reason);
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error).toMatchObject({ name: "CheckpointError", file: path, reason: expect.stringMatching(reasons[file] as RegExp) });
    expect((error as Error).message).toContain(path);
    expect(performance.now() - started).toBeLessThan(10_000);
    expect(process.memoryUsage().rss - memory).toBeLessThan(256 * 2 ** 20);
    expect(readdirSync(folder)).toEqual([]);
    for (const place of [fixturePath("unsafe/PWNED"), "/tmp/PWNED", join(folder, "..", "PWNED")]) expect(existsSync(place)).toBe(false);
  });

  test("every case is covered", () => {
    expect(cases.map(({ file }) => file).sort()).toEqual(Object.keys(reasons));
  });
});

test.each(["control_zip.pth", "control_legacy.pth"])("%s, which is harmless, loads", async (file) => {
  await expect(readAll(fixturePath(`unsafe/${file}`))).resolves.toBeDefined();
});
