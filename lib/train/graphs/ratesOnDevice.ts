/**
 * Whether a training has learning rate and momentum in its device's memory: on a GPU, where kernels read them with the same result in a step that
 * was recorded as in one launched kernel by kernel. They are float32 there, so trainings in float64, which are for comparing, have them as numbers of
 * JavaScript, as the CPU has.
 */
export function ratesOnDevice({ device, precision }: { device: string; precision: string }): boolean {
  return device.startsWith("cuda") && precision !== "fp64";
}
