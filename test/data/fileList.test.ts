import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { FileListError } from "../../lib/data/errors.js";
import { FileList, type FileListOptions } from "../../lib/data/list/fileList.js";
import { readImage } from "../../lib/data/decoding/readImage.js";
import { textLines } from "../../lib/data/list/textLines.js";
import { png, synthetic, withFolder } from "./pixels.js";

/** Opens a list of the given text beside an image `a.png`. */
async function open(name: string, text: string | Uint8Array, body: (list: FileList, folder: string) => void = () => {}): Promise<void> {
  await withFolder({ [name]: text, "a.png": "" }, async (folder) => body(await FileList.open(join(folder, name)), folder));
}

/** Paths and labels, as class names where there are any. */
const rows = (list: FileList): string[] =>
  Array.from({ length: list.length }, (_, i) => {
    const label = list.label(i);
    return `${list.name(i)} = ${label === null ? "none" : `${label} ${list.classes[label]}`}`;
  });

const reads = (name: string, text: string | Uint8Array, expected: string[]): Promise<void> =>
  open(name, text, (list) => expect(rows(list)).toEqual(expected));

async function refused(name: string, text: string | Uint8Array, message: RegExp): Promise<void> {
  const opening = open(name, text);
  await expect(opening).rejects.toThrow(FileListError);
  await expect(opening).rejects.toThrow(message);
}

describe("lists of lines", () => {
  test("with paths alone, from the list's folder or absolute", async () => {
    const image = synthetic(3);
    const bytes = await png(image);
    await withFolder({ "lists/all.txt": "", "lists/my photos/ä 日本.png": bytes, "else where.png": bytes }, async (folder) => {
      const absolute = join(folder, "else where.png");
      await writeFile(join(folder, "lists/all.txt"), `my photos/ä 日本.png\n../else where.png\n${absolute}\nmissing.png\n`);
      const list = await FileList.open(join(folder, "lists/all.txt"));
      expect([list.length, list.classes, list.label(0)]).toEqual([4, [], null]);
      expect([list.name(0), list.name(1), list.name(2)]).toEqual(["my photos/ä 日本.png", "../else where.png", absolute]);
      expect([list.image(0), list.image(1), list.image(2)]).toEqual([join(folder, "lists/my photos/ä 日本.png"), absolute, absolute]);
      for (const i of [0, 1, 2]) expect(await readImage(list, i)).toEqual(image);
      await expect(readImage(list, 3)).rejects.toThrow(/missing\.png.*ENOENT/);
      expect(() => list.name(4)).toThrow(/no image 4; the list has 4/);
    });
  });

  test("with a number after a space, as Caffe has them", () =>
    reads("val.lst", "a.png 2\nn01/b c 7.JPEG   0\nd.png 10\n", ["a.png = 2 2", "n01/b c 7.JPEG = 0 0", "d.png = 10 10"]));

  test("with a label after a tab: names are numbered in the order of code points", () =>
    reads("all.txt", "a.png\tzebra\nb 1.png\tÄrger\nno ending 5\tbig cat\nd.png\t\ne.png\tzebra\n", [
      "a.png = 1 zebra", "b 1.png = 2 Ärger", "no ending 5 = 0 big cat", "d.png = none", "e.png = 1 zebra",
    ]));

  test("with zeros before numbers", () => reads("all.txt", "a.png\t002\nb.png\t010\n", ["a.png = 2 2", "b.png = 10 10"]));

  test("with comments, blank lines, CRLF, a byte order mark, spaces around and no line end at the end", () =>
    reads("all.txt", "\ufeff# mine\r\n\r\n  a.png  \r\n   \r\n # more\r\n./#b.png\r\n\r\nc.png",
      ["a.png = none", "./#b.png = none", "c.png = none"]));

  test("as long as a chunk and longer", async () => {
    const paths = Array.from({ length: 5000 }, (_, i) => `${["a", "b/ä", "日本/c"][i % 3]!}/${i}.png`);
    await withFolder({ "all.txt": `a.png\n${paths.join("\n")}` , "a.png": "" }, async (folder) => {
      for (const bytes of [7, 64, 1000]) {
        const lines: string[] = [];
        for await (const group of textLines(join(folder, "all.txt"), { groupBytes: bytes })) lines.push(...group);
        expect(lines).toEqual(["a.png", ...paths]);
      }
      const list = await FileList.open(join(folder, "all.txt"), { root: folder });
      expect(rows(list).slice(1)).toEqual(paths.map((path) => `${path} = none`));
    });
  });
});

describe("tables", () => {
  test("with a header: the columns may stand anywhere", () =>
    reads("all.csv", "id,Label,file_name,width\n1,cat,a.png,3\n2,dog,b.png,4\n3,,c.png,5\n",
      ["a.png = 0 cat", "b.png = 1 dog", "c.png = none"]));

  test("without a header: path, label", async () => {
    await reads("all.csv", "a.png,1\nb.png, 0\n", ["a.png = 1 1", "b.png = 0 0"]);
    await reads("all.tsv", "a.png\tbig cat\nb, c.png\tdog\n", ["a.png = 0 big cat", "b, c.png = 1 dog"]);
    await reads("all.csv", "a.png\nb 2.png\n", ["a.png = none", "b 2.png = none"]);
  });

  test("with quotes", () =>
    reads("all.csv", 'path,label\n"a.png",1\n"b, ""c"" .png" ,2\n" d 3", 0\n"#e.png",\n',
      ["a.png = 1 1", 'b, "c" .png = 2 2', " d 3 = 0 0", "#e.png = none"]));

  test("with one column of paths and others that are no labels", () =>
    reads("all.tsv", "image\tcaption\na.png\ta cat, 3 years old\nb.png\t\n", ["a.png = none", "b.png = none"]));
});

describe("lists that cannot be used name the file and the line", () => {
  test.each<[string, string, string | Uint8Array, RegExp]>([
    ["a tab later", "l.txt", "a.png\n# x\nb.png\t1\n", /l\.txt: line 3 has a path, a tab and a label, but line 1 has a path; write all/],
    ["a number later", "l.txt", "a.png\nb.png 1\n", /line 2 has a path, a space and a number, but line 1 has a path/],
    ["no number later", "l.txt", "a.png 1\nb.png\n", /line 2 has a path, but line 1 has a path, a space and a number/],
    ["what may be a path or a label", "l.txt", "a 1\nb 2\n", /line 1 may be a path that ends in " 1", or "a" with the label 1; write/],
    ["too many tabs, such as MXNet's lists", "l.lst", "0\t3.0\ta.png\n", /line 1 has 2 tabs; one stands between/],
    ["names and numbers", "l.txt", "a.png\tcat\nb.png\t3\n", /line 2 has a number as its label, 3, but line 1 has a name/],
    ["a negative number", "l.txt", "a.png -1\n", /line 1 has the label -1; labels are whole numbers from 0/],
    ["a broken number", "l.csv", "a.png,1.0\n", /line 1 has the label 1\.0; labels are whole/],
    ["a huge number", "l.csv", "a.png,99999999\n", /line 1 has the label 99999999; at most 4194304 classes/],
    ["a folder", "l.txt", "a.png\nphotos/\n", /line 2 names the folder photos\//],
    ["no path", "l.txt", "a.png\t1\n\t2\n", /line 2 has no path/],
    ["columns without names", "l.csv", "a.png,1,2\n", /line 1 has 3 columns and no header; begin with a line that names them/],
    ["two columns of paths", "l.csv", "path,image,label\na.png,b.png,1\n", /line 1 names path and image, which may mean the same/],
    ["a row that is too short", "l.csv", "path,label\na.png\n", /line 2 has 1 columns where the first line has 2/],
    ["an open quote", "l.csv", 'path,label\n"a.png,1\n', /line 2 has a quote that does not open or close/],
    ["a quote in a cell", "l.csv", 'path,label\na"b.png,1\n', /line 2 has a quote/],
    ["bytes that are not UTF-8", "l.txt", Buffer.from("a.png\n\xe4.png\n", "latin1"), /line 2 is not UTF-8 text; save/],
    ["UTF-16, as PowerShell writes it", "l.txt", Buffer.from("\ufeffa.png\n", "utf16le"), /line 1 is not UTF-8 text/],
    ["no text", "l.txt", Buffer.alloc(3_000_000, 65), /line 1 is longer than 65536 characters: is this a text/],
    ["nothing", "l.txt", "# nothing\n\n", /l\.txt names no images; write one path a line/],
    ["nothing but a header", "l.csv", "path,label\n", /l\.csv names no images/],
    ["paths from elsewhere", "l.txt", "x/a.png\nx/b.png\n", /none of 2 files looked for is there, such as .*x\/a\.png; relative paths/],
  ])("%s", (_, name, text, message) => refused(name, text, message));

  test("a missing list, and a folder", () =>
    withFolder({ "folder.txt/a.png": "" }, async (folder) => {
      const opening = (name: string, options?: FileListOptions): Promise<FileList> => FileList.open(join(folder, name), options);
      await expect(opening("none.txt")).rejects.toThrow(/there is no file .*none\.txt; check the path/);
      await expect(opening("folder.txt")).rejects.toThrow(FileListError);
    }));
});

test("a list from elsewhere can be given its folder", () =>
  withFolder({ "lists/val.txt": "a.png 1\n", "images/a.png": "" }, async (folder) => {
    const list = await FileList.open(join(folder, "lists/val.txt"), { root: join(folder, "images") });
    expect(list.image(0)).toBe(join(folder, "images/a.png"));
  }));
