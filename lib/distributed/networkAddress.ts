import { createSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { networkInterfaces } from "node:os";
import { readConfig } from "../config.js";
import type { Placement } from "./placement.js";
import { RendezvousError } from "./errors.js";

/**
 * What Gloo binds to: the interface that the user names, or else the address from which this machine reaches the master, so that several
 * machines find each other without settings.
 *
 * @returns `"interface:NAME"` or `"host:ADDRESS"`
 * @throws {RendezvousError} for a name that no interface has, or a master's name that nobody knows
 */
export async function chooseAddress(placement: Placement): Promise<string> {
  const wanted = readConfig().socketInterface;
  if (wanted !== null) {
    const there = Object.keys(networkInterfaces());
    if (!there.includes(wanted)) {
      throw new RendezvousError(`this machine has no network interface ${wanted}, only ${there.join(", ")}; set MOCO_SOCKET_IFNAME to one of them`, []);
    }
    return `interface:${wanted}`;
  }
  const address = await addressTowards(placement.masterAddress, placement.masterPort);
  if (!isLoopback(address) || placement.localWorldSize >= placement.worldSize) return `host:${address}`;
  // The master's own name often stands for a loopback address on the master itself, which other machines cannot reach.
  const outside = Object.values(networkInterfaces()).flat().find((each) => each && !each.internal && each.family === "IPv4");
  return `host:${outside?.address ?? address}`;
}

const isLoopback = (address: string): boolean => address.startsWith("127.") || address === "::1";

/** The own address that the kernel would send from; asking sends nothing. */
async function addressTowards(host: string, port: number): Promise<string> {
  let found: { address: string; family: number };
  try {
    found = await lookup(host);
  } catch (error) {
    throw new RendezvousError(`the master's name ${host} is unknown here; give an address, or a name that all machines know`, [], { cause: error });
  }
  const socket = createSocket(found.family === 6 ? "udp6" : "udp4");
  try {
    return await new Promise((resolve, reject) => {
      socket.once("error", (error) =>
        reject(new RendezvousError(`this machine has no route to the master ${host} (${found.address})`, [], { cause: error })),
      );
      socket.connect(port, found.address, () => resolve(socket.address().address));
    });
  } finally {
    socket.close();
  }
}
