import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { Random } from "../../fuzz/random.js";

/** A training that is stopped again and again. */
export interface SoakTraining {
  name: string;
  /** Words between `moco` and `pretrain`: for several processes a launcher and its flags. */
  launch: readonly string[];
  data: "folder" | "shards";
  /** Flags that all lives have. */
  flags: readonly string[];
  /** Flags that each life draws. */
  drawn(random: Random): string[];
  /** How the end must be that of the undisturbed run: to the byte, or, where sums are added up in another order, to within rounding of float64. */
  equal: "bytes" | "rounding";
}

const IMAGES = 48;
export const BATCH = 8;
export const EPOCHS = 12;
export const STEPS = (EPOCHS * IMAGES) / BATCH;

const COMMON =
  `-b ${BATCH} --epochs ${EPOCHS} --warmup-epochs 2 --image-size 32 --moco-dim 16 --moco-mlp-dim 64 --moco-m-cos --device cpu --seed 11`.split(" ");
const VIT = ["-a", "vit_tiny", ..."--optimizer adamw --lr 3e-2 --wd 0.1 --moco-t 0.2 --stop-grad-conv1".split(" ")];
const RESNET = ["-a", "resnet_tiny", ..."--optimizer lars --lr 0.3 --wd 1e-6".split(" ")];
const ONE_THREAD = ["--threads", "1"];
/** AdamW makes whole steps of gradients that are rounding alone, in float32 too large ones to tell from a mistake: docs/restart.md. */
const FLOAT64 = ["--precision", "fp64"];
/** What float64's rounding may come to at the end of a training: of all losses the worst, and of the weights. Found: 2e-13, 9e-12. */
export const ROUNDING = 1e-9;

const loaders = (random: Random): string[] => ["-j", String(1 + random.below(2))];

export const TRAININGS: readonly SoakTraining[] = [
  {
    name: "ViT, AdamW, folder", launch: [], data: "folder", equal: "bytes", drawn: loaders,
    flags: [...VIT, ...COMMON, ...ONE_THREAD, "--save-every", "4steps"],
  },
  {
    name: "ResNet, LARS, shards", launch: [], data: "shards", equal: "bytes", drawn: loaders,
    flags: [...RESNET, ...COMMON, ...ONE_THREAD, "--save-every", "5steps", "--keep", "2"],
  },
  {
    name: "ViT, AdamW, shards, the training waits for its saves", launch: [], data: "shards", equal: "bytes", drawn: loaders,
    flags: [...VIT, ...COMMON, ...ONE_THREAD, "--save-every", "3steps", "--keep", "1", "--no-save-in-background"],
  },
  {
    name: "ResNet, LARS, folder", launch: [], data: "folder", equal: "bytes", drawn: loaders,
    flags: [...RESNET, ...COMMON, ...ONE_THREAD, "--save-every", "2steps"],
  },
  ...[{ name: "ViT, AdamW", network: VIT }, { name: "ResNet, LARS", network: RESNET }].map(({ name, network }): SoakTraining => ({
    name: `${name}, folder, float64, 1 or 2 compute threads`, launch: [], data: "folder", equal: "rounding",
    flags: [...network, ...COMMON, ...FLOAT64, "--save-every", "4steps"],
    drawn: (random) => [...loaders(random), "--threads", String(1 + random.below(2))],
  })),
];

/** Writes the images: as JPEGs in `photos/`, and the same in two shards, `shards/`. */
export async function writeImages(root: string): Promise<void> {
  const photos = join(root, "photos", "all");
  mkdirSync(photos, { recursive: true });
  mkdirSync(join(root, "shards"));
  const [width, height] = [48, 40];
  for (let i = 0; i < IMAGES; i++) {
    const random = new Random(3, i);
    const coarse = Buffer.from(Array.from({ length: 3 * 6 * 5 }, () => random.below(256)));
    const picture = sharp(coarse, { raw: { width: 6, height: 5, channels: 3 } }).resize(width, height, { kernel: "cubic" });
    await picture.jpeg().toFile(join(photos, `${String(i).padStart(3, "0")}.jpg`));
  }
  const names = readdirSync(photos).sort();
  for (const shard of [0, 1]) {
    const ofShard = names.filter((_, i) => i % 2 === shard);
    execFileSync("tar", ["-cf", join(root, "shards", `images-${shard}.tar`), "-C", photos, ...ofShard]);
  }
}

/** Where a training's images are in the folder that `writeImages` has filled. */
export function imagesOf(root: string, { data }: SoakTraining): string {
  return data === "folder" ? join(root, "photos") : join(root, "shards");
}
