import type { BenchmarkResult } from "../result.js";
import { count, number } from "./numbers.js";
import { bar, type Presentation } from "./presentation.js";

interface Raw {
  orders: { images: number; seconds: number; bytes: number }[];
  shards: { shards: number; seconds: number; bytes: number }[];
  headers: { images: number; seconds: number };
  stores: { clients: number; connectSeconds: number; meetSeconds: number }[];
}

export function presentScale({ raw }: BenchmarkResult): Presentation {
  const { orders, shards, headers, stores } = raw as unknown as Raw;
  const measured: { what: string; seconds: number; bytes?: number }[] = [
    ...orders.map(({ images, ...each }) => ({ what: `an epoch's order of ${count(images)} images`, ...each })),
    ...shards.map(({ shards: n, ...each }) => ({ what: `opening the index of ${count(n)} shards`, ...each })),
    { what: `reading ${count(headers.images)} headers of a tar file`, seconds: headers.seconds },
    ...stores.flatMap(({ clients, connectSeconds, meetSeconds }) => [
      { what: `connecting ${count(clients)} clients to the store`, seconds: connectSeconds },
      { what: `${count(clients)} clients meeting there`, seconds: meetSeconds },
    ]),
  ];
  return {
    title: "Data and rendezvous at scale",
    panels: [
      {
        title: "On one process", axis: "seconds, by factors of ten (less is better)", logarithmic: true,
        bars: measured.map(({ what, seconds }) => bar(what, "seconds", [seconds])),
      },
    ],
    columns: ["", "seconds", "memory, MB"],
    rows: measured.map(({ what, seconds, bytes }) => [what, number(seconds), number(bytes === undefined ? undefined : bytes / 1e6)]),
  };
}
