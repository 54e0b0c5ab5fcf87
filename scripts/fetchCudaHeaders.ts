// Brings the headers that the CUDA addon is compiled against (202 MB to download, 6 MB to keep), so that `npm test` compiles it on a machine
// without CUDA, and NVIDIA's run-time compiler (90 MB), so that it compiles kernels there.
import { readConfig } from "../lib/config.js";
import { fetchCudaHeaders, fetchNvrtc } from "../lib/setup/index.js";

await fetchCudaHeaders(readConfig());
await fetchNvrtc(readConfig());
