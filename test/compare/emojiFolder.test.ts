import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import sharp from "sharp";
import { EmojiDrawings } from "../../lib/data/datasets/emojiDrawings.js";
import { nameOf, openLabelledSplits, type ImageSource } from "../../lib/data/index.js";
import { folderName, writeEmoji } from "../../scripts/compare/emojiFolder.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const folder = temporaryFolder("emoji");

test("both vendors' drawings of the same emoji become the two parts of an image folder, with the pixels of the demo", async () => {
  const count = 120;
  expect(await writeEmoji(folder, { count })).toBe(count);
  const { classes, train, val } = await openLabelledSplits(folder);
  const emoji = new EmojiDrawings();
  // Few of the 1,911 are components.
  expect(classes).toEqual(emoji.classes.map(folderName).filter((name) => name !== "component").sort());
  expect(classes).toContain("food-and-drink");
  expect([train.length, val!.length]).toEqual([count, count]);
  for (const [v, part] of [train as ImageSource, val as ImageSource].entries()) {
    const vendor = ["google", "twitter"][v]!;
    for (const index of [0, 17, count - 1]) {
      const name = nameOf(part, index);
      const number = Number(/(\d{4})-(google|twitter)\.png$/.exec(name)![1]);
      expect(name).toContain(`-${vendor}.png`);
      expect(classes[part.label!(index)!]).toBe(folderName(emoji.classes[emoji.label(number)]!));
      const drawing = await emoji.image(number + v * emoji.pairs);
      const file = readFileSync(join(folder, v === 0 ? "train" : "val", classes[part.label!(index)!]!, `${name.split("/").at(-1)}`));
      const { data, info } = await sharp(file).raw().toBuffer({ resolveWithObject: true });
      expect(info).toMatchObject({ width: drawing.width, height: drawing.height, channels: 3 });
      expect(data.equals(drawing.data)).toBe(true);
    }
  }
  // The same emoji in both parts, none of them a skin-tone variation.
  const numbers = (part: string): string[] =>
    readdirSync(join(folder, part), { recursive: true, encoding: "utf8" }).flatMap((name) => /(\d{4})-\w+\.png$/.exec(name)?.[1] ?? []).sort();
  expect(numbers("val")).toEqual(numbers("train"));
  expect(numbers("train").every((number) => emoji.baseEmoji.includes(Number(number)))).toBe(true);
});
