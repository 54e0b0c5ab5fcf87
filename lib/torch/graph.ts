import { cudaAddon } from "../native/cuda.js";
import { native } from "../native.js";
import { keep, scope } from "./scope.js";
import { currentStream, newStream, withStream, type Stream } from "./stream.js";
import type { Tensor } from "./tensor.js";

/** Work that was recorded once and is launched again as one, in the same memory. */
export interface RecordedGraph {
  /** The tensors that recording returned: each replay writes them anew. They belong to the graph. */
  readonly outputs: readonly Tensor[];
  /** Puts all of the work into the device's current stream. */
  replay(): void;
  /** Gives back the graph's memory, once the device is done with it. Calling it again does nothing. */
  dispose(): void;
  [Symbol.dispose](): void;
}

/** Graphs are recorded in a stream of their own, always the same, so that cuBLAS has one workspace for all of them. */
const streams = new Map<string, Stream>();

/** The stream in which {@link recordGraph} records on a device; what is to be recorded should have run there before. */
export function recordingStream(device: string): Stream {
  const { device: name } = currentStream(device);
  let stream = streams.get(name);
  if (!stream) streams.set(name, (stream = newStream(name)));
  return stream;
}

/**
 * Records what `fn` gives a GPU as a CUDA graph; nothing runs before `replay`. Each replay reads and writes the memory that was used while
 * recording: inputs are tensors that the caller writes before, results those that `fn` returns. Memory that `fn` takes stays with the graph.
 * Numbers of JavaScript are recorded as they are; what changes from one replay to the next is a tensor. JavaScript inside `fn` runs once,
 * here. Random kernels take from the device's default generator at each replay, as if they were
 * launched then, and it goes on from there.
 *
 * `fn` may not wait for the device, nor read a value from it, nor copy between it and memory that is not pinned. It should have run in
 * {@link recordingStream} before, as libraries set themselves up at their first call.
 *
 * @param device a GPU
 * @param fn synchronous
 * @throws {CudaAddonError} without the CUDA addon; TorchError for work that cannot be recorded
 * @example
 * using graph = torch.recordGraph("cuda", () => [x.matmul(w).relu()]);
 * x.copy_(next);
 * graph.replay();
 */
export function recordGraph(device: string, fn: () => readonly Tensor[]): RecordedGraph {
  const addon = cudaAddon();
  const stream = recordingStream(device);
  const consumer = currentStream(device);
  native.releaseDeviceMemory(device); // cached blocks are of no use to the graph's own pool, which cannot ask for them
  stream.waitFor(consumer);
  return withStream(stream, () => {
    const graph = addon.beginGraph();
    let outputs: readonly Tensor[];
    try {
      outputs = scope(() => fn().map(keep));
    } catch (error) {
      try {
        addon.endGraph(graph);
      } catch {
        // What broke the recording is told by the first error.
      }
      addon.destroyGraph(graph);
      throw error;
    }
    try {
      addon.endGraph(graph);
    } catch (error) {
      outputs.forEach((tensor) => tensor.dispose());
      addon.destroyGraph(graph);
      throw error;
    }
    return new CudaGraph(device, graph, outputs);
  });
}

class CudaGraph implements RecordedGraph {
  #graph: number | null;

  constructor(private readonly device: string, graph: number, readonly outputs: readonly Tensor[]) {
    this.#graph = graph;
  }

  replay(): void {
    if (this.#graph === null) throw new Error("replay: the graph was disposed of; record another with recordGraph()");
    cudaAddon().replayGraph(this.#graph);
  }

  dispose(): void {
    if (this.#graph === null) return;
    currentStream(this.device).synchronize(); // its kernels may be running
    this.outputs.forEach((tensor) => tensor.dispose());
    cudaAddon().destroyGraph(this.#graph);
    this.#graph = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
