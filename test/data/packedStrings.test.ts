import { describe, expect, test } from "@jest/globals";
import { sortByCodePoint } from "../../lib/data/folder/codePoints.js";
import { ImageNames } from "../../lib/data/folder/imageNames.js";
import { PackedNumbers } from "../../lib/data/folder/packedNumbers.js";
import { PackedStrings } from "../../lib/data/folder/packedStrings.js";
import { SortedNames } from "../../lib/data/folder/sortedNames.js";

const all = (strings: PackedStrings): string[] => Array.from({ length: strings.length }, (_, i) => strings.at(i));
const odd = ["", "a", "ä", "日本.png", "\u{1f600}", "\uffee", "", "z"];

/** Names in no order, some of them not ASCII, in several blocks. */
const many = Array.from({ length: 140_000 }, (_, i) => `${(i * 7919) % 200_003}${odd[i % odd.length]!}.jpg`);

describe("packed strings", () => {
  test("give back what they were given, whatever the script and the block", () => {
    expect(all(PackedStrings.of(odd))).toEqual(odd);
    expect(all(PackedStrings.of(many))).toEqual(many);
    // Halves of a surrogate pair in two names do not become one character.
    expect(PackedStrings.of(["a\ud83d", "\ude00.png"]).at(1)).toBe("\ufffd.png");
  });

  test("grow by one, by several and by parts of others", () => {
    const strings = PackedStrings.empty();
    const packed = PackedStrings.of(many);
    for (const name of many.slice(0, 1000)) strings.push([name]);
    strings.appendFrom(packed, 1000, 70_000);
    strings.appendFrom(packed, 70_000);
    strings.push(odd);
    expect(all(strings)).toEqual([...many, ...odd]);
    const blocks = PackedStrings.empty();
    for (const block of strings.blocks()) blocks.append(block);
    expect(all(blocks)).toEqual([...many, ...odd]);
  });

  test("compare by code point", () => {
    const [wide, narrow] = [PackedStrings.of(["\u{1f600}"]), PackedStrings.of(["\uffee", "a", "aa"])];
    expect("\u{1f600}" < "\uffee").toBe(true); // by UTF-16 units
    expect(wide.compare(0, narrow, 0)).toBeGreaterThan(0);
    expect(narrow.compare(1, narrow, 2)).toBeLessThan(0);
    expect(narrow.compare(1, narrow, 1)).toBe(0);
  });

  test("are sorted in parts as they would be at once", () => {
    const names = new SortedNames();
    for (const name of many) names.add(name);
    expect(all(names.sorted())).toEqual(sortByCodePoint([...many]));
    expect(new SortedNames().sorted().length).toBe(0);
  });
});

test("packed numbers are filled across blocks", () => {
  const numbers = new PackedNumbers();
  numbers.push(7, 65_535);
  numbers.push(4_294_967_295, 3);
  numbers.set(65_536, 1);
  expect([numbers.length, numbers.at(65_534), numbers.at(65_535), numbers.at(65_536), numbers.at(65_537)])
    .toEqual([65_538, 7, 4_294_967_295, 1, 4_294_967_295]);
});

test("names of images take less than ten bytes an image beside themselves", () => {
  const folders = PackedStrings.of(Array.from({ length: 140 }, (_, i) => `class ${i}/`));
  const folderOf = new PackedNumbers();
  for (let i = 0; i < 140; i++) folderOf.push(i, 1000);
  const names = new ImageNames(folders, PackedStrings.of(many), folderOf);
  expect(names.path(123_456)).toBe(`class 123/${many[123_456]!}`);
  const itself = Buffer.byteLength(many.join(""));
  // The last block of each list has room for up to 65,536 more.
  expect((names.byteLength - itself) / many.length).toBeLessThan(10);
});
