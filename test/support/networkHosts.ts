import { execFileSync } from "node:child_process";

/** Nobody else sees it: the bridge is in a namespace, too. */
const SUBNET = "10.0.0";

/**
 * Hosts of one machine: network namespaces with an address each, joined by a bridge in a namespace of its own. Programs in two of them see
 * each other over the network only, as on two machines; they share files.
 */
export class NetworkHosts {
  readonly #names: string[] = [];

  /** @param count hosts, numbered from 0 */
  constructor(count: number) {
    const prefix = `moco${process.pid}`;
    const cable = `${prefix}sw`;
    try {
      this.#add(cable);
      ip(["-n", cable, "link", "add", "bridge", "type", "bridge"]);
      ip(["-n", cable, "link", "set", "bridge", "up"]);
      for (let host = 0; host < count; host++) {
        const name = `${prefix}h${host}`;
        this.#add(name);
        ip(["-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", `port${host}`, "netns", cable]);
        ip(["-n", cable, "link", "set", `port${host}`, "master", "bridge", "up"]);
        ip(["-n", name, "address", "add", `${this.address(host)}/24`, "dev", "eth0"]);
        ip(["-n", name, "link", "set", "eth0", "up"]);
        ip(["-n", name, "link", "set", "lo", "up"]);
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Whether this machine lets its user make network namespaces. */
  static arePossible(): boolean {
    try {
      new NetworkHosts(0).close();
      return true;
    } catch {
      return false;
    }
  }

  /** A host's address, as the others reach it: 10.0.0.1 and so on. */
  address(host: number): string {
    return `${SUBNET}.${host + 1}`;
  }

  /** The words that run a command on a host. */
  on(host: number, words: readonly string[]): [command: string, ...words: string[]] {
    return ["ip", "netns", "exec", this.#names[host + 1]!, ...words];
  }

  /** Removes the namespaces, and with them their interfaces. */
  close(): void {
    for (const name of this.#names.splice(0)) ip(["netns", "delete", name]);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #add(name: string): void {
    ip(["netns", "add", name]);
    this.#names.push(name);
  }
}

function ip(words: readonly string[]): void {
  execFileSync("ip", words, { stdio: ["ignore", "ignore", "pipe"] });
}
