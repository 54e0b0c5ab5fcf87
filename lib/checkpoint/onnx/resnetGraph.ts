import type { Tensor } from "../../torch/index.js";
import type { ResnetSizes } from "../encoder/architecture.js";
import { convolveAndNormalise, type Convolution } from "./convolution.js";
import type { GraphBuilder, Value } from "./graphBuilder.js";

/** A ResNet's pooled features [N, D] of images [N, 3, H, W]: `ResNet.forwardFeatures` in evaluation mode. */
export function resnetFeatures(graph: GraphBuilder, images: Value, state: ReadonlyMap<string, Tensor>, sizes: ResnetSizes): Value {
  const { block, layers, groups } = sizes;
  const convolution = (x: Value, name: string, norm: string, options: Convolution): Value =>
    convolveAndNormalise(graph, x, state, name, norm, options);
  const relu = (x: Value): Value => graph.apply("Relu", [x]);

  const basicBlock = (x: Value, name: string, stride: number): Value => {
    const out = relu(convolution(x, `${name}.conv1`, `${name}.bn1`, { stride, padding: 1 }));
    return convolution(out, `${name}.conv2`, `${name}.bn2`, { stride: 1, padding: 1 });
  };
  const bottleneck = (x: Value, name: string, stride: number): Value => {
    let out = relu(convolution(x, `${name}.conv1`, `${name}.bn1`, { stride: 1, padding: 0 }));
    out = relu(convolution(out, `${name}.conv2`, `${name}.bn2`, { stride, padding: 1, groups }));
    return convolution(out, `${name}.conv3`, `${name}.bn3`, { stride: 1, padding: 0 });
  };
  const branch = block === "basic" ? basicBlock : bottleneck;

  let x = graph.section("stem", () => {
    const out = relu(convolution(images, "conv1", "bn1", { stride: 2, padding: 3 })); // [N, width, H/2, W/2]
    return graph.apply("MaxPool", [out], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }); // [N, width, H/4, W/4]
  });
  for (const [stage, count] of layers.entries()) {
    for (let i = 0; i < count; i++) {
      const name = `layer${stage + 1}.${i}`;
      const stride = i === 0 && stage > 0 ? 2 : 1;
      x = graph.section(name, () => {
        const shortcut = state.has(`${name}.downsample.0.weight`)
          ? convolution(x, `${name}.downsample.0`, `${name}.downsample.1`, { stride, padding: 0 })
          : x;
        return relu(graph.apply("Add", [branch(x, name, stride), shortcut]));
      });
    }
  }
  return graph.section("pool", () => graph.apply("Flatten", [graph.apply("GlobalAveragePool", [x])], { axis: 1 })); // [N, D]
}
