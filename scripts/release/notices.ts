import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

// Debian's and RHEL's packages keep it here; a source tree of libjpeg-turbo has LICENSE.md.
const JPEG_LICENSES = [
  "/usr/share/doc/libjpeg62-turbo-dev/copyright", "/usr/share/doc/libjpeg-turbo8-dev/copyright", "/usr/share/licenses/libjpeg-turbo/LICENSE.md",
  "/usr/share/licenses/libjpeg-turbo-static/LICENSE.md", "/usr/local/share/doc/libjpeg-turbo/LICENSE.md",
];

/** A licence that has to go with the binaries was not found. */
export class NoticeError extends Error {
  override readonly name = "NoticeError";
}

/**
 * The licences of what is compiled into the binaries: libjpeg-turbo, node-addon-api, and the headers of libtorch.
 *
 * @param root the checkout, whose node_modules has node-addon-api
 * @param torchLicense libtorch's licence, as its package has it
 * @throws NoticeError that says which file is missing
 */
export function thirdPartyNotices(root: string, torchLicense: string): string {
  const jpeg = JPEG_LICENSES.find((file) => existsSync(file));
  if (jpeg === undefined) throw new NoticeError(`the licence of libjpeg-turbo is in none of ${JPEG_LICENSES.join(", ")}; install its development package`);
  const parts: [what: string, file: string][] = [
    ["libjpeg-turbo, linked into moco.node: decoding of JPEG images", jpeg],
    ["node-addon-api, headers compiled into the addons", join(root, "node_modules", "node-addon-api", "LICENSE.md")],
    ["PyTorch (libtorch), headers compiled into the addons; its libraries are not part of this package", torchLicense],
  ];
  const missing = parts.find(([, file]) => !existsSync(file));
  if (missing) throw new NoticeError(`the licence of ${missing[0].split(",")[0]} is not at ${missing[1]}`);
  const rule = "=".repeat(100);
  const head = "This package contains compiled code of the following projects, under the licences below.\n";
  return [head, ...parts.map(([what, file]) => `${rule}\n${what}\n${rule}\n\n${ownLicense(readFileSync(file, "utf8"))}\n`)].join("\n");
}

// PyTorch's file goes on with the licences of libraries that its binaries contain: they are not in ours.
function ownLicense(text: string): string {
  return text.split(/^The Py[Tt]orch repository and source distributions bundle/m)[0]!.trim();
}
