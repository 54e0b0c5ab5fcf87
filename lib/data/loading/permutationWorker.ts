/** The thread that draws one large permutation for `Sampler` into memory that both threads see, and ends. */
import { workerData } from "node:worker_threads";
import { RandomStream, type RandomKey } from "../random.js";

const { key, memory } = workerData as { key: RandomKey; memory: SharedArrayBuffer };
const order = new Uint32Array(memory);
new RandomStream(key).permutation(order.length, order);
