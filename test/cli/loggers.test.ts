/** `--tensorboard`, `--csv` and `--mlflow`: a run that is killed and resumed leaves in each what one leaves that was not. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import sharp from "sharp";
import { readRunLog } from "../../lib/report/index.js";
import { FakeMlflow } from "../support/fakeMlflow.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { startMoco } from "./moco.js";

const root = temporaryFolder("cli-loggers");

beforeAll(async () => {
  mkdirSync(join(root, "photos"));
  const photograph = sharp(fixturePath("augment/files/china.jpg"));
  for (let i = 0; i < 32; i++) {
    await photograph.clone().extract({ left: 8 * i, top: 4 * i, width: 90, height: 90 }).resize(48, 48).jpeg().toFile(join(root, "photos", `${i}.jpg`));
  }
  const recipe = {
    arch: "resnet18", "image-size": 32, "batch-size": 8, epochs: 3, "moco-dim": 16, "moco-mlp-dim": 32, "moco-t": 0.2, lr: 0.3, "warmup-epochs": 1, seed: 0, threads: 1,
    "print-freq": 1, "save-every": "5steps", tensorboard: true, csv: "numbers/table.csv", "log-histograms": 0,
  };
  writeFileSync(join(root, "recipe.json"), JSON.stringify(recipe));
});

test("killed and resumed, each log has every step", async () => {
  await using server = await FakeMlflow.start();
  const words = ["--config", "recipe.json", "--mlflow", server.uri];
  const killed = await startMoco(["pretrain", "photos", ...words, "--out", "run"], {
    cwd: root,
    // Its checkpoint of step 5 is there or, if the disk is slow, that of step 4.
    onStderr: (text, child) => void (text.includes("epoch 2/3  step 4/4") && child.kill("SIGKILL")),
  });
  expect(killed.signal).toBe("SIGKILL");
  const resumed = await startMoco(["pretrain", "photos", ...words, "--resume", "run"], { cwd: root });
  expect(resumed).toMatchObject({ code: 0 });
  expect(resumed.stderr).not.toMatch(/warning/);

  const steps = Array.from({ length: 12 }, (_, i) => i);
  const log = readRunLog(join(root, "run", "log.jsonl"));
  expect(log.steps.map(({ step }) => step)).toEqual(steps);
  expect(log.runs[1]!.firstStep).toBeGreaterThan(3);
  const [header, ...rows] = readFileSync(join(root, "numbers", "table.csv"), "utf8").trim().split("\n").map((line) => line.split(","));
  expect(rows.map(([step]) => Number(step))).toEqual(steps);
  expect(rows.map((row) => Number(row[header!.indexOf("train/loss")]))).toEqual(log.steps.map(({ loss }) => loss));
  expect(readdirSync(join(root, "run")).filter((name) => name.startsWith("events.out.tfevents.")).length).toBe(2);
  const told = server.run.metrics.filter(({ key }) => key === "train/loss");
  expect([...new Set(told.map(({ step }) => step))].filter((step) => step >= log.runs[1]!.firstStep)).toEqual(steps.slice(log.runs[1]!.firstStep));
  expect(server.run).toMatchObject({ status: "FINISHED", name: "run" });
}, 240_000);

test("an address that is none is wrong usage, before anything is read", async () => {
  const { code, stderr } = await startMoco(["pretrain", "photos", "--config", "recipe.json", "--mlflow", "localhost"], { cwd: root });
  expect(code).toBe(2);
  expect(stderr).toMatch(/--mlflow: "localhost" is not the address of an MLflow server; give one such as http:\/\/127\.0\.0\.1:5000/);
});
