import { native } from "../../native.js";
import type { LaunchStore } from "./coordinator.js";

/** How long an operation of the store may take, in milliseconds: it lives in this process. */
const TIMEOUT_MS = 60_000;

/**
 * The store where the processes of a training meet, in the launcher of machine 0: it outlives each of them, rank 0 too, so those that are left
 * can read there who has died.
 */
export async function openLaunchStore(): Promise<LaunchStore> {
  const [store, port] = await native.openStore("127.0.0.1", 0, true, TIMEOUT_MS);
  return {
    port,
    accuse: (generation, rank, what) => native.accuse(store, generation, rank, what),
    verdict: (generation) => native.verdict(store, generation),
    close: () => native.closeStore(store),
  };
}
