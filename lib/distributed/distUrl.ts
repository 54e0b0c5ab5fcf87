import { PlacementError } from "./placement.js";

/** Upstream's default, a multicast address: nobody has met there since PyTorch 1.0, so it stands for "not given". */
export const UNUSED_URL = "tcp://224.66.41.62:23456";

/** Where processes meet: an address, or what the environment says. */
export type MeetingPoint = { host: string; port: number } | "environment";

/**
 * Reads upstream's `--dist-url`.
 *
 * @returns null for upstream's default
 * @throws PlacementError for a URL of another kind
 * @example
 * readDistUrl("tcp://10.0.0.1:10001"); // { host: "10.0.0.1", port: 10001 }
 */
export function readDistUrl(url: string): MeetingPoint | null {
  if (url === UNUSED_URL) return null;
  if (url === "env://") return "environment";
  const match = /^tcp:\/\/(?:\[([\da-f:.%\w]+)\]|([^\s:/?#[\]]+)):(\d{1,5})\/?$/i.exec(url);
  const port = Number(match?.[3]);
  if (match !== null && port >= 1 && port <= 65535) return { host: (match[1] ?? match[2])!, port };
  throw new PlacementError(
    `--dist-url is "${url}"; give tcp://HOST:PORT with the host of rank 0 and a free port of it, such as tcp://10.0.0.1:10001, ` +
      "or env:// for MASTER_ADDR and MASTER_PORT",
  );
}
