/** A set-up step failed. The message says what was found, and ends with what to do. */
export class SetupError extends Error {
  override readonly name: string = "SetupError";
}

/** No libtorch in any of the places where it may be. */
export class LibtorchNotFoundError extends SetupError {
  override readonly name = "LibtorchNotFoundError";
}

/** A folder that was named as libtorch does not hold one. */
export class LibtorchFolderError extends SetupError {
  override readonly name = "LibtorchFolderError";
}

/** No Python that runs. */
export class PythonNotFoundError extends SetupError {
  override readonly name = "PythonNotFoundError";
}

/** Python runs, but has no pip. */
export class PipNotFoundError extends SetupError {
  override readonly name = "PipNotFoundError";
}

/** pip could not fetch a file. */
export class DownloadError extends SetupError {
  override readonly name = "DownloadError";
}

/** A file is not the one that its pinned SHA-256 stands for. */
export class HashMismatchError extends SetupError {
  override readonly name = "HashMismatchError";
}

/** The disk is full, or too full to begin. */
export class DiskFullError extends SetupError {
  override readonly name = "DiskFullError";
}

/** An archive is damaged, unsafe, or not what it should be. */
export class ArchiveError extends SetupError {
  override readonly name = "ArchiveError";
}

/** libtorch is not published for this machine. */
export class UnsupportedPlatformError extends SetupError {
  override readonly name = "UnsupportedPlatformError";
}

/** The addon did not build. */
export class BuildError extends SetupError {
  override readonly name = "BuildError";
}

/** The three ways to bring libtorch without fetching it. */
export const WAYS_OUT = [
  "  1. a folder:        LIBTORCH=/path/to/libtorch   (an unpacked libtorch zip, or Python's site-packages/torch)",
  "  2. a Python torch:  LIBTORCH_USE_PYTORCH=1       (the torch that `python3` imports)",
  "  3. an archive:      moco setup --archive FILE    (a libtorch zip or a torch wheel; needs no network and no Python)",
].join("\n");
