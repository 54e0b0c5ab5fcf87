import { PlacementError } from "./placement.js";

/**
 * The first host of a Slurm node list: `node[03-05,9],login1` begins with `node03`.
 *
 * Several brackets may follow each other, as in `rack[1-2]node[01-16]`; the first of each counts.
 *
 * @param variable where the list is from, for messages
 * @throws PlacementError for a list that is none
 * @example
 * firstNode("gpu[07-09,12]", "SLURM_JOB_NODELIST"); // "gpu07"
 */
export function firstNode(list: string, variable: string): string {
  const first = /^(?:[^[\],\s]|\[[\d,-]+\])+/.exec(list)?.[0] ?? "";
  const host = first.replaceAll(/\[(\d+)(?:-\d+)?(?:,\d+(?:-\d+)?)*\]/g, "$1");
  const rest = list.slice(first.length);
  if (host !== "" && !/[[\]]/.test(host) && (rest === "" || rest.startsWith(","))) return host;
  throw new PlacementError(`${variable} is "${list}", which is no list of hosts; set MASTER_ADDR to the host of rank 0`);
}

/**
 * How many tasks Slurm started on one of its nodes: `SLURM_STEP_TASKS_PER_NODE` is `4(x2),3` where two nodes have four and a third has three.
 *
 * @throws PlacementError where the list does not tell
 */
export function tasksOfNode(list: string, node: number, variable: string): number {
  let first = 0;
  for (const part of list.split(",")) {
    const match = /^(\d+)(?:\(x(\d+)\))?$/.exec(part.trim());
    if (match === null) break;
    first += Number(match[2] ?? 1);
    if (node < first) return Number(match[1]);
  }
  throw new PlacementError(`${variable} is "${list}", which does not say how many tasks node ${node} has; set LOCAL_WORLD_SIZE and LOCAL_RANK`);
}
