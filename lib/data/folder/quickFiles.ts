import { readdir, stat, type BigIntStats, type Dirent } from "node:fs";

// The functions of `node:fs/promises` take three times as long: 26 against 9 microseconds for `stat`, Node.js 20.

/** What the file system says of a path; links are followed. */
export function quickStat(path: string): Promise<BigIntStats> {
  return new Promise((resolve, reject) => {
    stat(path, { bigint: true }, (error, about) => (error ? reject(error) : resolve(about)));
  });
}

/** All entries of a folder. */
export function quickReaddir(folder: string): Promise<Dirent[]> {
  return new Promise((resolve, reject) => {
    readdir(folder, { withFileTypes: true }, (error, entries) => (error ? reject(error) : resolve(entries)));
  });
}
