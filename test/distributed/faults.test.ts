import { expect, test } from "@jest/globals";
import { runDistributedCampaign } from "../../scripts/faults/distributed/campaign.js";
import { NetworkHosts } from "../support/networkHosts.js";

// The campaign itself, `npm run faults -- distributed`, takes many minutes; its record is in benchmarks/results/faults-distributed.json.
(NetworkHosts.arePossible() ? test : test.skip)("a training on two hosts of which a rank is killed or stopped is noticed by all and ends with the same bytes", async () => {
  const { disturbances, violations } = await runDistributedCampaign({
    count: 2, seed: 3, lanes: 2, limit: 3, shortLimit: 3, epochs: 8, paceMs: 20, faults: ["SIGKILL of rank 0", "SIGSTOP of a rank"],
  });
  expect(violations).toEqual([]);
  expect(disturbances.map(({ fault }) => fault).sort()).toEqual(["SIGKILL of rank 0", "SIGSTOP of a rank"]);
  for (const { messages, processes, noticedSeconds } of disturbances) {
    expect(messages).toHaveLength(processes - 1);
    for (const message of messages) expect(message).toMatch(/rank \d of \d, at step \d+.*the collective "/);
    expect(noticedSeconds).toBeLessThan(30);
  }
}, 90_000);
