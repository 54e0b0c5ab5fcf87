import { createRequire } from "node:module";
import { join } from "node:path";
import { calmOpenMP, quietC10d } from "./config.js";
import { type AddonPlace, buildFolder, findAddon } from "./setup/addonPlace.js";
import { findLibtorch } from "./setup/findLibtorch.js";
import { hasNvidiaDriver } from "./setup/nvidiaDriver.js";
import { whyNoPrebuilt } from "./setup/prebuilt.js";

/** The addon's functions. Tensors are integer slots; see native/*.cc for each function's contract. */
export interface Native {
  // Operators (dispatch.cc)
  call(strings?: string[]): unknown[] | undefined;
  schemas(): string[];
  resolve(name: string, overload: string): { id: number; schema: string } | null;
  overloads(): Record<string, string[]>;
  argumentBuffer(length: number): ArrayBuffer;
  free(count: number): void;
  // Tensors (tensor.cc)
  fromBytes(bytes: Uint8Array, shape: number[], dtype: number): number;
  share(array: ArrayBufferView, shape: number[], dtype: number): number;
  copyOut(slot: number, array: ArrayBufferView): void;
  sharedBytes(slot: number): ArrayBuffer;
  shape(slot: number): number[];
  strides(slot: number): number[];
  dtype(slot: number): number;
  device(slot: number): string;
  numel(slot: number): number;
  isContiguous(slot: number): boolean;
  item(slot: number): number | bigint | boolean | { real: number; imag: number };
  storage(slot: number): { id: bigint; bytes: number; offset: number };
  isExclusive(slot: number): boolean;
  setData(slot: number, source: number): void;
  memory(): { tensors: number; bytes: number };
  // Autograd (autograd.cc)
  backward(outputs: number[], gradients: number[], retainGraph: boolean, createGraph: boolean): void;
  grad(
    outputs: number[], inputs: number[], gradients: number[], retainGraph: boolean, createGraph: boolean, allowUnused: boolean,
  ): number[];
  gradOf(slot: number, known: number): number;
  setGrad(slot: number, gradient: number): void;
  requiresGrad(slot: number): boolean;
  setRequiresGrad(slot: number, flag: boolean): void;
  isLeaf(slot: number): boolean;
  gradFn(slot: number): string | null;
  setGradEnabled(flag: boolean): boolean;
  isGradEnabled(): boolean;
  pushInferenceMode(flag: boolean): void;
  popInferenceMode(): void;
  setAutocast(deviceType: number, enabled: boolean, dtype: number): [boolean, number];
  enterAutocast(): void;
  leaveAutocast(): void;
  // Autograd functions in JavaScript (customFunction.cc)
  differentiableInputs(inputs: readonly number[]): number[] | null;
  recordFunction(
    name: string, context: object, inputs: readonly number[], versions: readonly number[], outputs: readonly number[],
    saved: readonly number[], nonDifferentiable: readonly number[], fillIn: boolean,
  ): number[];
  savedTensors(call: number): number[];
  giveGradients(call: number, gradients: readonly number[]): void;
  setCustomBackward(callback: (context: object, call: number, gradients: number[], needed: boolean[]) => void): void;
  /** For tests: every backward pass in another thread than JavaScript's. */
  runBackwardElsewhere(always: boolean): boolean;
  // Linear layers by oneDNN (linear.cc)
  linearGelu(x: number, weight: number, bias: number): number;
  // Threads, devices, random numbers (runtime.cc)
  versions(): { built: string; config: string; capability: string };
  cudaDeviceCount(): number;
  setBackendFlag(name: string, on: boolean): void;
  deviceMemory(device: string): number[];
  resetPeakDeviceMemory(device: string): void;
  releaseDeviceMemory(device: string): void;
  retainFreedMemory(): void;
  setNumThreads(count: number): void;
  getNumThreads(): number;
  manualSeed(seed: bigint): void;
  createGenerator(device: string): number;
  defaultGenerator(device: string): number;
  generatorSeed(generator: number, seed: bigint): void;
  generatorState(generator: number): number;
  setGeneratorState(generator: number, state: number): void;
  // Streams and events (stream.cc)
  deviceCount(device: string): number;
  currentStream(device: string): number;
  pooledStream(device: string, highPriority: boolean): number;
  exchangeStream(stream: number): number;
  streamDevice(stream: number): string;
  queryStream(stream: number): boolean;
  synchronizeStream(stream: number): void;
  createEvent(device: string): number;
  recordEvent(event: number, stream: number): void;
  waitForEvent(stream: number, event: number): void;
  queryEvent(event: number): boolean;
  synchronizeEvent(event: number): void;
  destroyEvent(event: number): void;
  recordStream(slot: number, stream: number): void;
  // Kernels compiled at run time, and what a GPU is (kernel.cc)
  kernelCompiler(path: string, builtins: string): number[];
  compileKernel(path: string, name: string, source: string, options: readonly string[]): ArrayBuffer | string;
  deviceProperties(index: number): [name: string, ...numbers: number[]];
  loadKernel(image: ArrayBuffer, name: string, device: number): unknown;
  unloadKernel(kernel: unknown): void;
  launchKernel(kernel: unknown, extent: readonly number[], sharedBytes: number, kinds: readonly string[], values: readonly number[]): void;
  // Stores, process groups, collectives (distributed.cc, syncBatchNorm.cc, gradientReducer.cc)
  openStore(host: string, port: number, serve: boolean, timeoutMs: number): Promise<[store: number, port: number]>;
  prefixStore(store: number, prefix: string): number;
  closeStore(store: number): void;
  storeSet(store: number, key: string, value: string): void;
  storeGet(store: number, key: string): string | null;
  storeAdd(store: number, key: string, amount: number): number;
  storeDelete(store: number, key: string): boolean;
  createGroup(
    store: number, rank: number, size: number, connectTimeoutMs: number, timeoutMs: number, address: string, cudaBackend: unknown,
  ): Promise<number>;
  closeGroup(group: number): void;
  allReduce(group: number, slot: number, reduction: string, name: string, check: boolean): void;
  allGather(group: number, slot: number, name: string, check: boolean): number;
  broadcast(group: number, slots: number[], from: number, name: string, check: boolean): void;
  barrier(group: number, name: string): void;
  syncBatchNorm(
    group: number, x: number, weight: number, bias: number, runningMean: number, runningVar: number, momentum: number, eps: number,
  ): number;
  createReducer(group: number, parameters: number[], bucketBytes: number): number;
  prepareReducer(reducer: number): void;
  averageGradients(reducer: number): void;
  disposeReducer(reducer: number): void;
  /** Tells the step of training, for messages. */
  setStep(step: number): void;
  activity(): [step: number, collective: string, running: boolean];
  setCollectiveError(makeError: (facts: CollectiveFacts) => Error): void;
  // The watchdog of processes that train together (watchdogBinding.cc)
  startWatchdog(
    host: string, port: number, generation: string, rank: number, size: number, hostsStore: boolean, storeOwner: string, limitMs: number,
    firstPatienceMs: number,
  ): unknown;
  turnWatchdog(watchdog: unknown): void;
  stopWatchdog(watchdog: unknown): void;
  watchdogCosts(watchdog: unknown): [rounds: number, cpuSeconds: number];
  accuse(store: number, generation: string, rank: number, what: string): void;
  verdict(store: number, generation: string): { rank: number; what: string } | null;
  endWithParent(): void;
  // Files (fileRead.cc)
  /** Not there on Windows, nor where Node.js keeps its zlib to itself. */
  readChecked?(file: number, bytes: Uint8Array, position: number, crc: number): Promise<[bytesRead: number, crc: number]>;
  // Images (imagePool.cc, imageBinding.cc)
  imagePool(threads: number): unknown;
  closeImagePool(pool: unknown): void;
  cancelImageWork(pool: unknown): void;
  imagePoolTimes(pool: unknown): number[];
  prepareImages(
    pool: unknown, images: (string | Uint8Array)[], inputs: Float64Array, renderings: Float64Array, draws: Float64Array,
    operations: Float64Array, outputs: number[], normalization: Float64Array, honourOrientation: boolean, outcomes: Int32Array,
  ): Promise<(string | null)[]>;
  decodeImage(
    pool: unknown, image: string | Uint8Array, input: Float64Array, honourOrientation: boolean,
  ): Promise<[outcome: number, width: number, height: number, rgb: ArrayBuffer, reason: string | null]>;
  fitCrop(draw: Float64Array, width: number, height: number): [top: number, left: number, height: number, width: number];
  /** The JPEG library inside, or "". */
  jpegVersion(): string;
  cmykToRgb(cmyk: Uint8Array, rgb: Uint8Array): void;
  usePlainKernels(plain: boolean): void;
}

/** What the addon tells of a collective that did not end; lib/distributed/errors.ts makes an error of it. */
export interface CollectiveFacts {
  /** The rank that tells, and how many there are. */
  rank: number;
  size: number;
  /** The step of training, counted from 0; -1 before the first. */
  step: number;
  /** What it was for: "gradients", "batch norm", "keys", ... */
  collective: string;
  /** How long it ran. */
  seconds: number;
  /** It took longer than collectives may, rather than that a connection broke. */
  timedOut: boolean;
  /** The store does not answer either. */
  storeLost: boolean;
  /** Ranks that did not say that they saw the failure too: they are gone, or hang. */
  silent: number[];
  /** What the network library said. */
  reason: string;
}

/** The addon or libtorch could not be loaded. The message lists what was tried and the command that mends it. */
export class AddonLoadError extends Error {
  override readonly name = "AddonLoadError";
}

const require = createRequire(import.meta.url);

function load(): { native: Native; place: AddonPlace } {
  const libtorch = findLibtorch();
  const place = findAddon(libtorch);
  if (place === null) {
    throw new AddonLoadError(
      `There is no native addon for libtorch ${libtorch.version}: none was built in ${buildFolder}, and ${whyNoPrebuilt(libtorch)}.\n` +
        "Build it, with a C++ compiler and CMake: npx moco setup",
    );
  }
  calmOpenMP();
  quietC10d();
  const addonPath = join(place.folder, "moco.node");
  let loading = join(place.folder, "moco_loader.node");
  try {
    const loader = require(loading) as { open(path: string): void; builtFor: string };
    if (loader.builtFor.split("+")[0] !== libtorch.version.split("+")[0]) {
      throw new AddonLoadError(
        `The addon was built for libtorch ${loader.builtFor}, but ${libtorch.root} is libtorch ${libtorch.version}; ` +
          "their binary interfaces differ.\nRebuild the addon with: npx moco setup",
      );
    }
    for (loading of libtorch.preload) loader.open(loading);
    // Its operators register themselves in the dispatcher as it loads; the addon needs no more than that to use a GPU.
    if (hasNvidiaDriver()) for (loading of libtorch.cudaPreload) loader.open(loading);
    loading = addonPath;
    return { native: require(addonPath) as Native, place };
  } catch (error) {
    if (error instanceof AddonLoadError) throw error;
    throw new AddonLoadError(
      `Could not load ${loading}: ${(error as Error).message}\n` +
        `libtorch ${libtorch.version} was found at ${libtorch.root} (${libtorch.source}).\nSee what is missing with: npx moco doctor`,
      { cause: error },
    );
  }
}

const loaded = load();

export const native: Native = loaded.native;
/** Which addon was loaded, and the one for CUDA beside it. */
export const addonPlace: AddonPlace = loaded.place;
