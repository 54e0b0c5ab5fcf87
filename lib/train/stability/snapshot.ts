import { disposeTensors, OrderedDict } from "../../checkpoint/index.js";
import type { OptimizerStateDict, ScalingState } from "../../optim/index.js";
import * as torch from "../../torch/index.js";
import { Tensor } from "../../torch/index.js";
import type { Trainee } from "../runs/trainingState.js";

type Trained = Pick<Trainee, "moco" | "optimizer" | "scaler">;

/** A snapshot as checkpoints keep it, so that a run that is resumed can go back as far as one that was not stopped. */
export interface SavedSnapshot {
  /** Steps done then, over the whole run. */
  step: number;
  state_dict: OrderedDict<string, Tensor>;
  optimizer: OptimizerStateDict;
  scaler: ScalingState;
}

/** The state of a training as it was, in memory: both encoders, predictor, optimiser and gradient scaler. */
export class Snapshot {
  private constructor(private readonly value: SavedSnapshot) {}

  /** Copies the state before a step. */
  static take(trained: Trained, step: number): Snapshot {
    return new Snapshot(copyOf(valueOf(trained, step)));
  }

  /** Copies what a checkpoint has. Dicts with text for keys come back as plain objects. */
  static of(saved: SavedSnapshot): Snapshot {
    const { step, state_dict: network, optimizer, scaler } = saved;
    const state = new Map([...optimizer.state].map(([index, each]) => [index, each instanceof Map ? each : new Map(Object.entries<Tensor>(each))]));
    return new Snapshot(copyOf({ step, state_dict: network, optimizer: { state, param_groups: optimizer.param_groups }, scaler }));
  }

  get step(): number {
    return this.value.step;
  }

  /** Its own tensors, for a checkpoint. */
  get saved(): SavedSnapshot {
    return this.value;
  }

  /** Takes another state's place, in the same memory where that fits. */
  retake(trained: Trained, step: number): Snapshot {
    const now = valueOf(trained, step);
    if (copyTensors(this.value, now)) return new Snapshot({ ...this.value, step, scaler: now.scaler });
    this.dispose();
    return new Snapshot(copyOf(now));
  }

  /** Puts the training back; its tensors stay where they are, unless the optimiser had fewer then. */
  restore(trained: Trained): void {
    const { moco, optimizer, scaler } = trained;
    if (!copyTensors(valueOf(trained, 0), this.value)) {
      moco.loadStateDict(this.value.state_dict);
      optimizer.loadStateDict(this.value.optimizer);
    }
    scaler.loadStateDict(this.value.scaler);
  }

  dispose(): void {
    disposeTensors(this.value);
  }
}

function valueOf({ moco, optimizer, scaler }: Trained, step: number): SavedSnapshot {
  return { step, state_dict: new OrderedDict(moco.stateDict()), optimizer: optimizer.stateDict(), scaler: scaler.resumableState() };
}

/** Tensors by their places in a state. */
function tensorsOf({ state_dict: network, optimizer }: SavedSnapshot): Map<string, Tensor> {
  const found = new Map([...network].map(([key, tensor]) => [`network ${key}`, tensor]));
  for (const [index, state] of optimizer.state) for (const [key, tensor] of state) found.set(`optimizer ${index} ${key}`, tensor);
  return found;
}

/** Copies one state's tensors into another's, all of them or, where the states have not the same tensors, none. */
function copyTensors(to: SavedSnapshot, from: SavedSnapshot): boolean {
  const [targets, sources] = [tensorsOf(to), tensorsOf(from)];
  if (targets.size !== sources.size || [...targets.keys()].some((key) => !sources.has(key))) return false;
  torch.noGrad(() => targets.forEach((tensor, key) => tensor.copy_(sources.get(key)!)));
  return true;
}

/** With copies of all tensors inside; everything else is taken as it is. */
function copyOf<T>(value: T): T {
  if (value instanceof Tensor) return torch.noGrad(() => torch.keep(value.clone())) as T;
  if (Array.isArray(value)) return value.map(copyOf) as T;
  if (value instanceof OrderedDict) return new OrderedDict([...value].map(([key, each]) => [key, copyOf(each)])) as T;
  if (value instanceof Map) return new Map([...value].map(([key, each]: [unknown, unknown]) => [key, copyOf(each)])) as T;
  if (typeof value !== "object" || value === null || ![Object.prototype, null].includes(Object.getPrototypeOf(value) as object | null)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, copyOf(each)])) as T;
}
