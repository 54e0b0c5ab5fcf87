import type { ProcessGroup } from "../../distributed/index.js";
import type { ScalingState } from "../../optim/index.js";
import * as torch from "../../torch/index.js";
import type { DType, Tensor } from "../../torch/index.js";
import type { Trainee } from "../runs/trainingState.js";

/** What a state tensor is like, so that the other ranks can make one. */
interface TensorKind {
  shape: readonly number[];
  dtype: DType;
  onCpu: boolean;
}

/** What the first rank's optimiser and scaler know besides numbers in tensors. */
interface Told {
  state: [parameter: number, [name: string, kind: TensorKind][]][];
  groups: object[];
  scaler: ScalingState;
}

/**
 * Gives the first rank's state to all: weights and statistics, the optimiser's moments and options, the loss scale. The others need no file for
 * it.
 */
export function takeOver({ moco, optimizer, scaler }: Trainee, group: ProcessGroup): void {
  torch.noGrad(() => torch.scope(() => {
    group.broadcast_([...moco.stateDict().values()], 0, "weights");
    const leads = group.rank === 0;
    if (!leads) moco.loadStateDict(moco.stateDict()); // sees what depends on weights, such as whether both encoders have the same stem
    const { state, param_groups: groups } = optimizer.stateDict();
    const own: Told = {
      state: [...state].map(([parameter, values]) => [parameter, [...values].map(([name, tensor]) => [name, kindOf(tensor)])]),
      groups,
      scaler: scaler.resumableState(),
    };
    const told = group.exchange(leads ? own : null, "state of the optimiser")[0]!;
    if (told.state.length === 0) return;
    const device = moco.parameters()[0]!.device;
    const tensors = leads ? state : new Map(told.state.map(([parameter, values]) =>
      [parameter, new Map(values.map(([name, kind]) => [name, tensorOf(kind, device)]))]));
    group.broadcast_([...tensors.values()].flatMap((values) => [...values.values()]), 0, "state of the optimiser");
    if (leads) return;
    optimizer.loadStateDict({ state: tensors, param_groups: told.groups });
    scaler.loadStateDict(told.scaler);
  }));
}

function kindOf({ shape, dtype, device }: Tensor): TensorKind {
  return { shape, dtype, onCpu: device === "cpu" };
}

function tensorOf({ shape, dtype, onCpu }: TensorKind, device: string): Tensor {
  return torch.zeros([...shape], { dtype, device: onCpu ? "cpu" : device });
}
