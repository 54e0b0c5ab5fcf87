import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "@jest/globals";
import { hiddenGpus } from "../../lib/config.js";
import { checkGpus, lookForGpus, type GpuFacts } from "../../lib/setup/gpus.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const root = temporaryFolder("gpus");
let counter = 0;

/** A machine's files. */
function machine(files: Record<string, string>): string {
  const folder = join(root, String(counter++));
  for (const [path, text] of Object.entries({ "proc/version": "", ...files })) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  return folder;
}

const card = {
  "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n", "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
  // Its sound and another maker's graphics do not count.
  "sys/bus/pci/devices/0000:01:00.1/vendor": "0x10de\n", "sys/bus/pci/devices/0000:01:00.1/class": "0x040300\n",
  "sys/bus/pci/devices/0000:02:00.0/vendor": "0x8086\n", "sys/bus/pci/devices/0000:02:00.0/class": "0x030000\n",
};
const driver = {
  "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder)\nGCC version:  gcc 12\n",
  "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA H200\nIRQ:   \t\t 53\n",
};
const device = { "dev/nvidiactl": "" };
const withCuda = { cuda: true, build: "2.11.0+cu130" };
const found = (files: Record<string, string>, libtorch: typeof withCuda | null, trial: Parameters<typeof checkGpus>[3] = null): string => {
  const facts: GpuFacts = { ...lookForGpus(machine(files)), hidden: null };
  const { status, found, fix } = checkGpus("cpu", facts, libtorch, trial);
  return `${status} | ${found} | ${fix ?? ""}`;
};

test("what the machine shows is read off its files", () => {
  expect(lookForGpus(machine({ ...card, ...driver, ...device }))).toMatchObject({
    cards: 1, models: ["NVIDIA H200"], driver: "580.95.05", unreachable: false,
  });
  expect(lookForGpus(machine({}))).toMatchObject({ cards: 0, models: [], driver: null, unreachable: false });
});

test("a GPU that libtorch sees is named", () => {
  expect(found({ ...card, ...driver, ...device }, withCuda, { count: 1, failure: null })).toBe("ok | cpu, cuda:0: NVIDIA H200 (driver 580.95.05) | ");
  expect(found({ ...card, ...driver, ...device }, withCuda, { count: 4, failure: null })).toContain("cuda:0 to cuda:3");
});

test("each reason why CUDA is off is told, with what mends it", () => {
  expect(found({}, withCuda, { count: 0, failure: "no driver" })).toBe("ok | cpu; CUDA is off: no NVIDIA GPU and no driver for one | ");
  expect(found(card, withCuda)).toMatch(/^optional .*1 NVIDIA GPU on the PCI bus, but no driver.*install NVIDIA's driver/);
  expect(found({ ...card, ...driver }, withCuda)).toMatch(/no \/dev\/nvidiactl here, as in a container.*--gpus all/);
  expect(found({ ...card, ...driver, ...device }, { cuda: false, build: "2.11.0" })).toMatch(/libtorch 2\.11\.0 has no CUDA libraries \| npx moco setup --cuda$/);
  const old = found({ ...card, ...driver, ...device }, withCuda, { count: 0, failure: "The NVIDIA driver on your system is too old" });
  expect(old).toMatch(/for CUDA 13\.0 and sees no GPU \(The NVIDIA driver on your system is too old\) \| nvidia-smi/);
  const { found: hidden, fix } = checkGpus("cpu", { ...lookForGpus(machine({ ...card, ...driver, ...device })), hidden: "-1" }, withCuda);
  expect(`${hidden} | ${fix}`).toMatch(/hidden by CUDA_VISIBLE_DEVICES="-1" \| unset CUDA_VISIBLE_DEVICES$/);
});

test.each<[string | undefined, string | null]>([[undefined, null], ["0", null], ["1,0", null], ["", ""], ["-1", "-1"], ["-1,0", "-1,0"]])(
  "CUDA_VISIBLE_DEVICES=%p hides every GPU: %p",
  (value, expected) => expect(hiddenGpus({ CUDA_VISIBLE_DEVICES: value })).toBe(expected),
);
