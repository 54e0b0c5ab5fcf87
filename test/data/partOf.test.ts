import { expect, test } from "@jest/globals";
import { DataOptionError, partOf, type ImageSource, type ImageStream, type StreamRequest } from "../../lib/data/index.js";

const source: ImageSource = { length: 7, classes: ["a"], image: (index) => `${index}.png`, name: (index) => `image ${index}`, label: (index) => index % 2 };

test.each([1, 2, 3, 7])("the parts of %i processes have each image once", (worldSize) => {
  const parts = Array.from({ length: worldSize }, (_, rank) => partOf(source, rank, worldSize) as ImageSource);
  const images = parts.flatMap((part) => Array.from({ length: part.length }, (_, i) => part.image(i)));
  expect([...images].sort()).toEqual(Array.from({ length: 7 }, (_, i) => `${i}.png`));
  const last = parts.at(-1)!;
  expect([last.name?.(0), last.label?.(0), last.classes]).toEqual([`image ${worldSize - 1}`, (worldSize - 1) % 2, ["a"]]);
});

test("a stream deals its images itself, whatever it is asked as", async () => {
  const asked: StreamRequest[] = [];
  const stream: ImageStream = {
    length: 5,
    async *stream(request) {
      asked.push(request);
      yield { id: request.rank, name: "x", label: null, image: "x.png" };
    },
  };
  const part = partOf(stream, 1, 2) as ImageStream;
  expect(part.length).toBe(3);
  for await (const { id } of part.stream({ seed: 3, epoch: 4, rank: 0, worldSize: 1 })) expect(id).toBe(1);
  expect(asked).toEqual([{ seed: 3, epoch: 4, rank: 1, worldSize: 2 }]);
});

test("fewer images than processes are refused", () => {
  expect(() => partOf(source, 0, 8)).toThrow(DataOptionError);
  expect(() => partOf(source, 0, 8)).toThrow(/7 images to judge by, fewer than the 8 processes/);
});
