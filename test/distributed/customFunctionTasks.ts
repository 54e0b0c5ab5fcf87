// What the ranks of customFunction.test.ts do.
import { native } from "../../lib/native.js";
import { GradientAverager, type ProcessGroup } from "../../lib/distributed/index.js";
import * as torch from "../../lib/torch/index.js";
import type { FunctionContext, Tensor } from "../../lib/torch/index.js";
import { gradientsOfParts, SmallNet } from "./trainingTasks.js";

/** `relu` with a backward in JavaScript, which may do more. */
const relu = (meanwhile: () => void = () => undefined) => torch.customFunction({
  name: "relu",
  forward(context: FunctionContext<[y: Tensor]>, x: Tensor) {
    const y = x.clampMin(0);
    context.saveForBackward(y);
    return y;
  },
  backward(context, gradient) {
    meanwhile();
    return [gradient.mul(context.saved[0].gt(0))];
  },
});

class OwnNet extends SmallNet {
  constructor(private readonly activation = relu()) {
    super();
  }

  override forward(x: Tensor): Tensor {
    return this.head.forward(this.activation(this.norm.forward(this.conv.forward(x))).flatten(1)).mean();
  }
}

/** The gradients that are averaged during a backward which JavaScript's thread only serves. */
export function gradientsElsewhere(group: ProcessGroup, options: Parameters<typeof gradientsOfParts>[1]): number[][][] {
  native.runBackwardElsewhere(true);
  return gradientsOfParts(group, options);
}

/** How far the averaged gradients of a net with a function of its own lie from the mean of the parts'. */
export function averagingOwnFunction(group: ProcessGroup): number {
  native.runBackwardElsewhere(true);
  torch.manualSeed(7n);
  using net = new OwnNet().to("float64");
  const parts = Array.from({ length: group.size }, (_, rank) => torch.randn([4, 3, 8, 8], { dtype: "float64" }).add(rank));
  const gradientsOf = (x: Tensor): Tensor[] => {
    net.zeroGrad();
    net.forward(x).backward();
    return net.parameters().map(({ grad }) => grad!.detach().clone());
  };
  const each = parts.map(gradientsOf);
  using averager = new GradientAverager(net.parameters(), group);
  averager.prepare();
  const averaged = gradientsOf(parts[group.rank]!);
  return Math.max(...averaged.map((gradient, i) => each.reduce((rest, part) => rest.sub(part[i]!.div(group.size)), gradient).abs().max().item()));
}

/** Rank 1 ends while the others' functions run. */
export function deathInOwnFunction(group: ProcessGroup): unknown {
  native.runBackwardElsewhere(true);
  using net = new OwnNet(relu(() => {
    if (group.rank === 1) process.kill(process.pid, "SIGKILL");
  }));
  using averager = new GradientAverager(net.parameters(), group);
  native.setStep(5);
  averager.prepare();
  net.forward(torch.randn([2, 3, 8, 8])).backward();
  return null;
}

/** An error of JavaScript where gradients are averaged. */
export function errorInOwnFunction(group: ProcessGroup): unknown {
  using net = new OwnNet(relu(() => {
    throw new RangeError("mine");
  }));
  using averager = new GradientAverager(net.parameters(), group);
  averager.prepare();
  net.forward(torch.randn([2, 3, 8, 8])).backward();
  return null;
}
