import { expect, test } from "@jest/globals";
import { isStream, randomSubset, type ImageStream } from "../../lib/data/index.js";
import { memorySource, synthetic } from "./pixels.js";

test("the same images each time, in their order", async () => {
  const source = { ...memorySource(1000), classes: ["even", "odd"], label: (index: number) => index % 2 };
  const some = randomSubset(source, 100);
  expect(some.length).toBe(100);
  expect(some.classes).toEqual(["even", "odd"]);
  const places = Array.from({ length: 100 }, (_, i) => Number(some.name!(i).split(" ")[1]));
  expect(places).toEqual([...places].sort((a, b) => a - b));
  expect(new Set(places).size).toBe(100);
  expect(places.map((place) => place % 2)).toEqual(places.map((_, i) => some.label!(i)));
  expect(await some.image(7)).toEqual(synthetic(places[7]!));
  // Spread over all, not a piece of them.
  for (const quarter of [0, 1, 2, 3]) expect(places.filter((place) => Math.floor(place / 250) === quarter).length).toBeGreaterThan(10);
  const again = randomSubset(source, 100);
  expect(Array.from({ length: 100 }, (_, i) => again.name!(i))).toEqual(places.map((place) => `image ${place}`));
  expect(randomSubset(source, 1000)).toBe(source);
});

test("a stream gives those of the same places, and stops after the last", async () => {
  let given = 0;
  const stream: ImageStream = {
    length: 1000,
    async *stream() {
      for (let id = 0; id < 1000; id++, given++) {
        yield { id, name: `image ${id}`, label: 0, image: id % 2 === 0 ? synthetic(id) : Promise.reject(new Error("broken on purpose")) };
      }
    },
  };
  const some = randomSubset(stream, 5);
  if (!isStream(some)) throw new Error("a stream stays one");
  const names: string[] = [];
  for await (const { name, image } of some.stream({ seed: 0, epoch: 0, rank: 0, worldSize: 1 })) {
    names.push(name);
    await Promise.resolve(image).catch(() => undefined);
  }
  const expected = randomSubset(memorySource(1000), 5);
  expect(names).toEqual(Array.from({ length: 5 }, (_, i) => expected.name!(i)));
  expect(given).toBeLessThan(1000);
});
