// Brings the headers that the CUDA addon is compiled against (202 MB to download, 6 MB to keep), so that `npm test` compiles it on a machine
// without CUDA.
import { readConfig } from "../lib/config.js";
import { fetchCudaHeaders } from "../lib/setup/index.js";

await fetchCudaHeaders(readConfig());
