/** Two more architectures, small enough to be trained and stopped hundreds of times; `node --import` gives them to the command. */
import { registerArchitecture, ResNet, VisionTransformer } from "../../../lib/models/index.js";

registerArchitecture("vit_tiny", (options) => new VisionTransformer({ ...options, patchSize: 8, embedDim: 32, depth: 2, numHeads: 2 }));
registerArchitecture("resnet_tiny", (options) => new ResNet({ ...options, block: "basic", layers: [1, 1, 1, 1], width: 4 }));
