import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { fixturePath } from "../support/fixtures.js";
import { startMoco, type Outcome } from "./moco.js";

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "moco-convert-"));
  copyFileSync(fixturePath("checkpoints/vit_stopgrad_adamw_zip.pth.tar"), join(root, "vit.pth.tar"));
  mkdirSync(join(root, "run"));
  copyFileSync(fixturePath("checkpoints/resnet_lars_zip.pth.tar"), join(root, "run", "checkpoint_0001.pth.tar"));
  copyFileSync(fixturePath("checkpoints/vitmini_adamw_zip.pth.tar"), join(root, "narrow.pth.tar"));
  symlinkSync(join(root, "vit.pth.tar"), join(root, "link.pth.tar"));
  mkdirSync(join(root, "photos"));
  writeFileSync(join(root, "photos", "cat.png"), "");
  writeFileSync(join(root, "page.pth"), "<html>not found</html>");
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const convert = (...words: string[]): Promise<Outcome> => startMoco(["convert", ...words], { cwd: root });

describe("moco convert", () => {
  test("prints the path on stdout and what was assumed on stderr", async () => {
    const { code, stdout, stderr } = await convert("vit.pth.tar", "vit.deit.pth", "--to", "deit");
    expect([code, stdout]).toEqual([0, "vit.deit.pth\n"]);
    expect(stderr).toMatch(/^note: 12 attention heads assumed, as all of MoCo v3's ViTs have.*\(--heads for others\)$/m);
  });

  test("--json prints one object; the furthest checkpoint stands for a run's folder", async () => {
    const { code, stdout, stderr } = await convert("run", "resnet.pth", "--to", "deit", "--json");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      path: "resnet.pth", from: "moco-v3", to: "deit", arch: "resnet18", numHeads: null, tensors: 130,
      notes: [expect.stringMatching(/projector \(fc\.\*\)/)],
    });
    expect(stderr).toMatch(/^note: the projector/);
  });

  test("a name that ends with .onnx says what to write", async () => {
    const words = ["vit.pth.tar", "vit.onnx", "--precision", "int8", "--layer", "patches", "--preprocess"];
    expect(await convert(...words, "--json")).toMatchObject({ code: 0, stdout: expect.stringMatching(/"to":"onnx"/) as unknown });
    expect(await convert(...words)).toMatchObject({ code: 2, stderr: expect.stringMatching(/vit.onnx exists already.*--force/) as unknown });
    const model = readFileSync(join(root, "vit.onnx"), "latin1");
    for (const text of ["moco-v3", "precision\x12\x04int8", "layer\x12\x07patches", "pixels"]) expect(model).toContain(text);
  });

  test("writes a folder for Hugging Face, replaces it only with --force, and leaves nothing beside it", async () => {
    const words = ["vit.pth.tar", "hf", "--to", "huggingface", "--heads", "3"];
    expect(await convert(...words)).toMatchObject({ code: 0, stdout: "hf\n" });
    expect(readdirSync(join(root, "hf")).sort()).toEqual(["config.json", "model.safetensors", "preprocessor_config.json"]);
    writeFileSync(join(root, "hf", "old.txt"), "old");
    expect(await convert(...words)).toMatchObject({ code: 2, stderr: expect.stringMatching(/hf exists already.*--force/) as unknown });
    expect(await convert(...words, "--force")).toMatchObject({ code: 0 });
    expect(readdirSync(join(root, "hf")).sort()).toEqual(["config.json", "model.safetensors", "preprocessor_config.json"]);
    expect(readdirSync(root).filter((name) => name.startsWith("."))).toEqual([]);
    const config = JSON.parse(readFileSync(join(root, "hf", "config.json"), "utf8")) as unknown;
    expect(config).toMatchObject({ num_attention_heads: 3, hidden_size: 24, image_size: 32 });
    // And back, from the folder as a whole.
    expect(await convert("hf", "back.pth", "--to", "encoder")).toMatchObject({ code: 0, stderr: "" });
  });

  test.each<[string, string[], number, RegExp]>([
    ["no target", ["vit.pth.tar", "x.pth"], 2, /x.pth: its name does not tell what to write; say it with --to moco-v3, --to deit.*\.onnx/],
    ["a flag of another target", ["vit.pth.tar", "x", "--to", "timm", "--precision", "int8"], 2, /--precision is for ONNX models/],
    ["a name of another target", ["vit.pth.tar", "x.onnx", "--to", "timm"], 1, /only ONNX models are called so/],
    ["a classifier of a pre-training", ["vit.pth.tar", "x.onnx", "--with-head"], 1, /--with-head.*kind moco-v3 has none/],
    ["heads that ONNX must be told", ["narrow.pth.tar", "x.onnx"], 1, /heads is unknown.*--heads/],
    ["a folder that is not there", ["vit.pth.tar", "nowhere/x.onnx"], 1, /cannot be written.*Create the folder first/],
    ["an unknown target", ["vit.pth.tar", "x", "--to", "caffe"], 2, /'caffe' is invalid. Allowed choices are moco-v3, deit/],
    ["the input as output", ["vit.pth.tar", "vit.pth.tar", "--to", "timm", "--force"], 2, /is the input itself/],
    ["the input by another name", ["vit.pth.tar", "link.pth.tar", "--to", "timm", "--force"], 2, /is the input itself/],
    ["a folder of other things", ["vit.pth.tar", "photos", "--to", "huggingface", "--force"], 2, /holds something else than a model/],
    ["a folder for a file", ["vit.pth.tar", "photos", "--to", "timm", "--force"], 2, /photos is a folder/],
    ["heads that do not fit", ["vit.pth.tar", "x", "--to", "encoder", "--heads", "5"], 1, /5 attention heads do not divide the width 24/],
    ["heads that Hugging Face's code must be told", ["narrow.pth.tar", "x", "--to", "huggingface"], 1, /no convention fits the width 16; give/],
    ["heads of a ResNet", ["run", "x", "--to", "encoder", "--heads", "5"], 1, /given for a ResNet, which has none/],
    ["a misleading name", ["vit.pth.tar", "x.safetensors", "--to", "encoder"], 1, /safetensors files hold bare tensors only/],
    ["no checkpoint", ["nowhere.pth", "x", "--to", "timm"], 1, /no checkpoint nowhere.pth/],
    ["a web page", ["page.pth", "x", "--to", "timm"], 1, /it looks like a web page/],
  ])("%s", async (_, words, code, message) => {
    const before = readdirSync(root).sort();
    const outcome = await convert(...words);
    expect(outcome.stderr).toMatch(message);
    expect([outcome.code, outcome.stdout]).toEqual([code, ""]);
    expect(readdirSync(root).sort()).toEqual(before);
  });

  test.each(["encoder", "safetensors"])("heads that nothing tells stay open in a file of ours, %s", async (to) => {
    const { code, stderr } = await convert("narrow.pth.tar", `narrow.${to}`, "--to", to);
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^note: .*no convention fits the width 16; give --heads$/m)]);
    const told = await convert(`narrow.${to}`, `told.${to}`, "--to", to, "--heads", "2", "--json");
    expect(JSON.parse(told.stdout)).toMatchObject({ from: "encoder", numHeads: 2, notes: [] });
  });

  test("the input is as it was", () => {
    expect(readFileSync(join(root, "vit.pth.tar"))).toEqual(readFileSync(fixturePath("checkpoints/vit_stopgrad_adamw_zip.pth.tar")));
    expect(existsSync(join(root, "photos", "cat.png"))).toBe(true);
  });
});
