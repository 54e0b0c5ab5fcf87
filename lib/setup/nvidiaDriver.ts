import { existsSync } from "node:fs";

// The kernel's module, and Windows' driver as seen from WSL.
const SIGNS = ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1"];

/** Whether this machine has an NVIDIA driver; loads nothing. */
export function hasNvidiaDriver(): boolean {
  return SIGNS.some((path) => existsSync(path));
}
