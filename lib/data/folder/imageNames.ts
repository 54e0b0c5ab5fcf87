import { PackedNumbers } from "./packedNumbers.js";
import { PackedStrings } from "./packedStrings.js";

/**
 * The paths of very many images: eight bytes an image beside its own name, and each folder's name once. A hundred million fit in memory.
 */
export class ImageNames {
  readonly #folders: PackedStrings;
  readonly #names: PackedStrings;
  readonly #folderOf: PackedNumbers;

  /**
   * @param folders what stands before a name in its path: `""` or ends with a slash
   * @param names of the images, without the folder
   * @param folderOf each image's position in `folders`
   */
  constructor(folders: PackedStrings, names: PackedStrings, folderOf: PackedNumbers) {
    this.#folders = folders;
    this.#names = names;
    this.#folderOf = folderOf;
  }

  get length(): number {
    return this.#names.length;
  }

  /** Memory in bytes. */
  get byteLength(): number {
    return this.#folders.byteLength + this.#names.byteLength + this.#folderOf.byteLength;
  }

  /** Folder and name; `index` must be below `length`. */
  path(index: number): string {
    return this.#folders.at(this.#folderOf.at(index)) + this.#names.at(index);
  }

  /** The same as the bytes that the file system has, for names that are not UTF-8. */
  pathBytes(index: number): Buffer {
    return Buffer.concat([this.#folders.bytesAt(this.#folderOf.at(index)), this.#names.bytesAt(index)]);
  }

  /** Position in the list of folders. */
  folder(index: number): number {
    return this.#folderOf.at(index);
  }
}
