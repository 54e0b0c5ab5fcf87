/**
 * What unpacks moco.tar.xz beside it, for a shell to source.
 *
 * @param build of the libtorch that the addon was built for, such as `2.11.0+cu130`
 * @param digest of the archive: what was unpacked before, on a machine that is still there, is not unpacked again
 */
export function unpackScript({ build, digest }) {
  return `# To be sourced: . unpack.sh DESTINATION
archive="$(dirname "\${BASH_SOURCE[0]}")/moco.tar.xz"
found=$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__), torch.__version__)') || return 1
case "$found" in *" ${build}") ;; *) echo "error: the addon was built for torch ${build}, and Python has torch \${found##* }" >&2; return 1;; esac
if [ "$(cat "$1/moco/.unpacked" 2>/dev/null)" != ${digest} ]; then
  mkdir -p "$1" || return 1
  if command -v xz >/dev/null; then tar -C "$1" -xJf "$archive" || return 1; else python3 -m tarfile -e "$archive" "$1" || return 1; fi
  echo ${digest} >"$1/moco/.unpacked"
fi
export PATH="$(cd "$1" && pwd)/moco/bin:$PATH" LIBTORCH="\${found% *}"
cd "$1/moco"
`;
}
