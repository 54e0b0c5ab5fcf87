/** File name endings that count as images, in lower case; names are compared without regard to case. */
export const imageEndings: ReadonlySet<string> = new Set([
  ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".ppm", ".pgm", ".pbm", ".pnm", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif",
]);

const imageName = new RegExp(`(?:${[...imageEndings].join("|").replaceAll(".", "\\.")})$`, "i");

/** Whether a file's name, without its folder, says that it is an image. */
export function isImageName(name: string): boolean {
  // What macOS writes beside files on other file systems, `._NAME`, has their endings and no picture in it.
  return imageName.test(name) && !name.startsWith("._");
}
