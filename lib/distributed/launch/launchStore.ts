import { native } from "../../native.js";
import { Store } from "../store.js";
import type { LaunchStore } from "./coordinator.js";

/**
 * The store where the processes of a training meet, in the launcher of machine 0: it outlives each of them, rank 0 too, so those that are left
 * can read there who has died.
 */
export async function openLaunchStore(): Promise<LaunchStore> {
  const store = await Store.connect({ host: "127.0.0.1", port: 0, serve: true });
  return {
    port: store.port,
    accuse: (generation, rank, what) => native.accuse(store.handle(), generation, rank, what),
    verdict: (generation) => native.verdict(store.handle(), generation),
    close: () => store.close(),
  };
}
