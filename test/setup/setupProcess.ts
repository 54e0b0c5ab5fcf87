// A set-up in a process of its own, to be killed or run beside another: node setupProcess.js CACHE PYTHON WHEELS
import { fetchLibtorch } from "../../lib/setup/fetchLibtorch.js";
import { configFor } from "./fakeTorch.js";

const [cache = "", python = "", wheels = ""] = process.argv.slice(2);
const { root } = await fetchLibtorch(configFor(cache, { MOCO_PYTHON: python, MOCO_QUIET: "0" }), { wheels: JSON.parse(wheels) });
process.stdout.write(root);
