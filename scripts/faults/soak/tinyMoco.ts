/** The command `moco`, with the tiny architectures. */
import "./tinyArchitectures.js";

await import("../../../lib/cli/main.js");
