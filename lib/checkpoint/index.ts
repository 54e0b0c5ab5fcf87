/** PyTorch checkpoints, read without executing anything and written so that PyTorch opens them. */
export { readCheckpoint, type Checkpoint, type ReadOptions } from "./readCheckpoint.js";
export { writeCheckpoint, type WriteOptions } from "./writeCheckpoint.js";
export { CheckpointError } from "./error.js";
export { defaultLimits, type CheckpointLimits } from "./limits.js";
export { OrderedDict, PythonComplex, PythonFloat, PythonGlobal, PythonObject, PythonTuple, TorchSize } from "./pythonValues.js";
export { addPrefix, hasPrefix, MODULE_PREFIX, selectPrefix, StateDictKeyError, stripPrefix, toStateDict } from "./keys.js";
export { writeDurably } from "./durableFile.js";
