/** A kind of GPU, and the node that it usually sits in. Rates are bytes and operations a second, each way where there are two. */
export interface GpuType {
  name: string;
  memoryBytes: number;
  /** Of bfloat16 matrix products of 8192 squared. */
  matrixFlops: number;
  /** Of the GPU's own memory. */
  memoryBandwidth: number;
  /** Of all links to the node's other GPUs. */
  nvlinkBandwidth: number;
  /** Of the GPU's network card. */
  networkBandwidth: number;
  gpusPerNode: number;
  /** Where `matrixFlops` comes from. */
  source: "measured" | "vendor, scaled";
}

/** What of the vendor's figure an H200 reaches: 696 TFLOP/s measured (benchmarks/results/step-gpu.json) of 989 published. */
const REACHED = 696.4 / 989;

/**
 * The H200's matrix product is measured; everything else is NVIDIA's data sheets: bandwidths of memory and NVLink, and InfiniBand with one
 * 400 Gb/s card (200 Gb/s beside an A100) for each GPU, as DGX systems have.
 */
export const gpuTypes = {
  h200: {
    name: "H200 SXM", memoryBytes: 141e9, matrixFlops: 696.4e12, memoryBandwidth: 4.8e12, nvlinkBandwidth: 450e9, networkBandwidth: 50e9,
    gpusPerNode: 8, source: "measured",
  },
  h100: {
    name: "H100 SXM", memoryBytes: 80e9, matrixFlops: REACHED * 989e12, memoryBandwidth: 3.35e12, nvlinkBandwidth: 450e9, networkBandwidth: 50e9,
    gpusPerNode: 8, source: "vendor, scaled",
  },
  a100: {
    name: "A100 SXM 80 GB", memoryBytes: 80e9, matrixFlops: REACHED * 312e12, memoryBandwidth: 2.039e12, nvlinkBandwidth: 300e9,
    networkBandwidth: 25e9, gpusPerNode: 8, source: "vendor, scaled",
  },
} as const satisfies Record<string, GpuType>;

export type GpuTypeName = keyof typeof gpuTypes;
