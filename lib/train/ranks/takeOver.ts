import { OrderedDict } from "../../checkpoint/index.js";
import type { ProcessGroup } from "../../distributed/index.js";
import type { ScalingState } from "../../optim/index.js";
import * as torch from "../../torch/index.js";
import type { DType, Tensor } from "../../torch/index.js";
import type { Trainee } from "../runs/trainingState.js";
import type { SavedSnapshot } from "../stability/snapshot.js";

/** What a state tensor is like, so that the other ranks can make one. */
interface TensorKind {
  shape: readonly number[];
  dtype: DType;
  onCpu: boolean;
}

/** What the first rank knows of a state besides numbers in tensors. */
interface Told {
  state: [parameter: number, [name: string, kind: TensorKind][]][];
  groups: object[];
  scaler: ScalingState;
  /** Steps done. */
  step: number;
}

/** What a training can be put back to. */
type State = SavedSnapshot;

/**
 * Gives the first rank's state to all: weights and statistics, the optimiser's moments and options, the loss scale, and what the watch over the
 * training remembers. The others need no file for it.
 */
export function takeOver({ moco, optimizer, scaler, watch }: Trainee, group: ProcessGroup): void {
  torch.noGrad(() => torch.scope(() => {
    const leads = group.rank === 0;
    const network = new OrderedDict(moco.stateDict());
    const state = ofFirst({ step: 0, state_dict: network, optimizer: optimizer.stateDict(), scaler: scaler.resumableState() }, network, group)!;
    const { stability, rollback } = watch?.saved ?? {};
    const remembered = group.exchange(leads ? stability ?? null : null, "watch")[0];
    const snapshot = ofFirst(leads ? rollback ?? null : null, network, group);
    if (leads) return;
    moco.loadStateDict(state.state_dict); // sees what depends on weights, such as whether both encoders have the same stem
    if (state.optimizer.state.size > 0) optimizer.loadStateDict(state.optimizer);
    scaler.loadStateDict(state.scaler);
    if (remembered !== null) watch?.restore({ stability: remembered, ...(snapshot === null ? {} : { rollback: snapshot }) });
  }));
}

/**
 * The first rank's state, on all.
 *
 * @param own this rank's, which only matters on the first one; null where there is none
 * @param network of the same keys and shapes on all ranks
 */
function ofFirst(own: State | null, network: OrderedDict<string, Tensor>, group: ProcessGroup): State | null {
  const leads = group.rank === 0;
  const told = group.exchange(leads && own !== null ? wordsOf(own) : null, "state")[0] ?? null;
  if (told === null) return null;
  const device = [...network.values()][0]!.device;
  const state: State = leads ? own! : {
    step: told.step,
    state_dict: new OrderedDict([...network].map(([key, tensor]) => [key, torch.emptyLike(tensor)])),
    optimizer: {
      state: new Map(told.state.map(([parameter, values]) => [parameter, new Map(values.map(([name, kind]) => [name, tensorOf(kind, device)]))])),
      param_groups: told.groups as State["optimizer"]["param_groups"],
    },
    scaler: told.scaler,
  };
  group.broadcast_([...state.state_dict.values()], 0, "weights");
  const moments = [...state.optimizer.state.values()].flatMap((values) => [...values.values()]);
  if (moments.length > 0) group.broadcast_(moments, 0, "state of the optimiser");
  return state;
}

function wordsOf({ step, optimizer, scaler }: State): Told {
  return {
    step, scaler, groups: optimizer.param_groups,
    state: [...optimizer.state].map(([parameter, values]) => [parameter, [...values].map(([name, tensor]) => [name, kindOf(tensor)])]),
  };
}

function kindOf({ shape, dtype, device }: Tensor): TensorKind {
  return { shape, dtype, onCpu: device === "cpu" };
}

function tensorOf({ shape, dtype, onCpu }: TensorKind, device: string): Tensor {
  return torch.zeros([...shape], { dtype, device: onCpu ? "cpu" : device });
}
