import { KeyMap } from "../keyMap.js";
import { huggingfaceResnet } from "./huggingfaceResnet.js";
import { huggingfaceVit } from "./huggingfaceVit.js";
import { resnet } from "./resnet.js";
import { torchvisionVit } from "./torchvisionVit.js";
import { vit } from "./vit.js";

/** Every way of naming an encoder's tensors that is known. */
export const keyMaps = {
  "vit": new KeyMap(vit),
  "resnet": new KeyMap(resnet),
  "torchvision-vit": new KeyMap(torchvisionVit),
  "huggingface-vit": new KeyMap(huggingfaceVit),
  "huggingface-resnet": new KeyMap(huggingfaceResnet),
};

/** The layout of a state dict, and what stands before the encoder's keys; null where no key gives one away. */
export function detectLayout(keys: Iterable<string>): { keyMap: KeyMap; prefix: string } | null {
  for (const key of keys) {
    for (const keyMap of Object.values(keyMaps)) {
      for (const signature of keyMap.layout.signatures) {
        if (key === signature) return { keyMap, prefix: "" };
        if (key.endsWith(`.${signature}`)) return { keyMap, prefix: key.slice(0, -signature.length) };
      }
    }
  }
  return null;
}
