import { formatDuration } from "../report/index.js";
import type { DeviceMemoryPlan } from "../train/planning/memoryPlan.js";
import type { PretrainPlan } from "../train/planning/planPretraining.js";
import { counted } from "./counted.js";

/** A plan for people. */
export function describePlan(plan: PretrainPlan): string {
  return [headline(plan), "", ...memoryLines(plan), "", ...timeLines(plan), "", ...diskLines(plan), "", ...measuredLines(plan), ""].join("\n");
}

function headline({ arch, device, gpu, images, epochs, stepsPerEpoch, batchSize, precision, network, machine }: PretrainPlan): string {
  const where = device === "cpu" ? `${counted(machine.cores, "core")} of ${machine.cpu}` : `${device}${gpu === null ? "" : `, ${gpu.name}`}`;
  return (
    `${arch} (${millions(network.parameters)} parameters with heads, ${network.gflopPerImage.toPrecision(3)} GFLOP an image and step) on ${where}: ` +
    `${counted(images, "image")}, ${counted(epochs, "epoch")} of ${counted(stepsPerEpoch, "step")} of ${batchSize}, ${precision}`
  );
}

function memoryLines({ memory, device, usableBytes, machine, chunk, batchSize, microBatch }: PretrainPlan): string[] {
  const onGpu = device !== "cpu";
  const room = Number.isFinite(usableBytes) ? `of ${size(usableBytes)} that can be used` : "(how much the GPU has is not known: nvidia-smi is not there)";
  const lines = [onGpu ? "Memory of the GPU" : "Memory", ...partLines(memory.training), `  ${row("together", memory.training.bytes)}  ${room}`];
  if (memory.host !== null) {
    const hostRoom = `of ${size(machine.availableBytes)} that ${memory.host.bytes > machine.availableBytes ? "are not enough" : "are free"}`;
    lines.push("Memory of the machine", ...partLines(memory.host), `  ${row("together", memory.host.bytes)}  ${hostRoom}`);
  }
  if (chunk.fits) return [...lines, `It fits: the batch of ${batchSize} ${microBatch === null ? "at once, without --micro-batch" : `with --micro-batch ${microBatch}`}.`];
  if (chunk.microBatch !== null) {
    const exactness = chunk.exact
      ? "gradients are those of the whole batch"
      : "not exact: the encoder's batch normalisation then sees one chunk's images only";
    return [...lines, `It does not fit${microBatch === null ? " at once" : ` with --micro-batch ${microBatch}`}. --micro-batch ${chunk.microBatch} needs ${size(chunk.bytes)}; ${exactness}.`];
  }
  const smaller = chunk.smallerBatch === null ? "a smaller encoder" : `--batch-size ${chunk.smallerBatch}`;
  return [...lines, `It does not fit, not even in chunks: the views and heads of ${batchSize} images need too much. Take ${smaller}, or more memory.`];
}

function partLines({ parts }: DeviceMemoryPlan): string[] {
  return parts.filter(({ bytes }) => Math.abs(bytes) >= 5e5).map(({ name, bytes }) => `  ${row(name, bytes)}`);
}

function timeLines({ pace, measured, machine, chunk, device }: PretrainPlan): string[] {
  const { loading } = measured;
  const chunks = chunk.microBatch === null ? "" : `, with --micro-batch ${chunk.microBatch}`;
  const keepsUp =
    pace.bottleneck === "computing"
      ? `Loading keeps up: ${counted(pace.threads, "thread")} make ${rate(loading.imagesPerCoreSecond * pace.threads)}, the step takes ${rate(pace.imagesPerSecond)}.`
      : `Loading is the bottleneck: ${counted(pace.threads, "thread")} make ${rate(loading.imagesPerCoreSecond * pace.threads)}. ` +
        (pace.threadsNeeded !== null && pace.threadsNeeded > machine.cores
          ? `It would take ${pace.threadsNeeded} threads, and the machine has ${counted(machine.cores, "core")}: store smaller JPEGs, or --augment gpu.`
          : `Give it ${pace.threadsNeeded ?? machine.cores} (-j).`);
  return [
    "Time",
    `  a step     ${seconds(pace.stepSeconds)}: computing ${seconds(pace.computeSeconds)}, its images in ${seconds(pace.loadSeconds)}` +
      `${device === "cpu" ? " on the same cores" : " meanwhile"}${chunks}`,
    `  an epoch   ${formatDuration(pace.epochSeconds)}`,
    `  all        ${formatDuration(pace.trainingSeconds)}`,
    keepsUp,
  ];
}

function diskLines({ checkpoints: { bytes, seconds: each, kept, diskBytes, freeBytes, folder } }: PretrainPlan): string[] {
  const room = diskBytes > freeBytes ? `but only ${size(freeBytes)} are free in ${folder}: --keep 3 keeps the newest three only` : `${size(freeBytes)} are free`;
  return [
    "Disk",
    `  a checkpoint  ${size(bytes)}, written in ${seconds(each)} beside the training`,
    `  all           ${size(diskBytes)} (${counted(kept, "checkpoint")}, one in the making, and the log), ${room}`,
  ];
}

function measuredLines({ measured: { trial, flopPerSecond, loading, diskBytesPerSecond, seconds: all } }: PretrainPlan): string[] {
  const batches = trial.steps.map(({ batch }) => batch).join(" and ");
  return [
    `Measured here in ${seconds(all)}: steps at batch ${batches} (${(flopPerSecond / 1e9).toPrecision(3)} GFLOP/s), views of ` +
      `${counted(loading.images, "image")} (${rate(loading.imagesPerCoreSecond)} a core), disk at ${size(diskBytesPerSecond)}/s. The rest is computed from the layers.`,
  ];
}

const row = (name: string, bytes: number): string => `${name.padEnd(58)}${size(bytes).padStart(9)}`;

/** `950 kB`, `4.71 GB`: three digits, decimal units. */
export function size(bytes: number): string {
  if (bytes < 0) return `-${size(-bytes)}`;
  const power = Math.min(4, Math.max(1, Math.floor(Math.log10(Math.max(bytes, 1)) / 3)));
  const value = bytes / 1000 ** power;
  const text = value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
  return `${text} ${["", "kB", "MB", "GB", "TB"][power]}`;
}

const seconds = (value: number): string => (value < 1 ? `${(1000 * value).toPrecision(2)} ms` : value < 120 ? `${value.toPrecision(3)} s` : formatDuration(value));
const rate = (value: number): string => `${value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(2)} images/s`;
const millions = (value: number): string => `${(value / 1e6).toPrecision(3)} M`;
