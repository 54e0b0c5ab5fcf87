// What is special in MoCo v3's networks, one part after the other, with numbers that are computed here and now.
//
//   node models.mjs [--out DIR]      prints the walk and writes its pictures to DIR (default: walk-through)
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createMoCo, figurePage, filterFigure, similarityByDistance, sineCosineTable, writePositionPicture } from "moco-v3";
import { ConvStem, PatchEmbed, VisionTransformer } from "moco-v3/models";
import { Conv2d } from "moco-v3/nn";
import { AdamW } from "moco-v3/optim";
import * as torch from "moco-v3/torch";

const { values: { out } } = parseArgs({ options: { out: { type: "string", default: "walk-through" } } });
await mkdir(out, { recursive: true });

const say = (...lines) => console.log(lines.join("\n"));
const heading = (title) => say("", title, "=".repeat(title.length));
/** A table: the first column is text, the others are numbers. */
function table(titles, rows) {
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => String(row[i]).length)));
  for (const row of [titles, ...rows]) say(`  ${row.map((cell, i) => (i === 0 ? String(cell).padEnd(widths[i]) : String(cell).padStart(widths[i]))).join("   ")}`);
}
const std = (tensor) => torch.scope(() => tensor.detach().std().item());
const millions = (count) => `${(count / 1e6).toFixed(2)} M`;
const parametersOf = (module) => [...module.parameters()].reduce((sum, each) => sum + each.numel(), 0);

torch.manualSeed(0);
await positionEmbedding();
initialisation();
frozenProjection();
stems();
await pictures();

/** Where a patch is: the paper's networks add a fixed table to their tokens. */
async function positionEmbedding() {
  heading("1. Position embedding");
  const [grid, width] = [[14, 14], 384];
  const embedding = sineCosineTable(grid, width);
  const row = (token) => embedding.values.subarray(token * width, (token + 1) * width);
  say(
    `An image of 224 pixels has ${grid.join(" x ")} patches of 16, so there are ${embedding.values.length / width} tokens with the class token, of ${width} numbers each.`,
    `The class token's row is zero: its largest number is ${Math.max(...row(0).map(Math.abs))}.`,
    `All others have the length ${Math.hypot(...row(1)).toFixed(4)} = sqrt(${width} / 2), as each pair of sine and cosine adds 1 to its square: ${Math.hypot(...row(196)).toFixed(4)} for the last.`,
    `Within a quarter waves grow from ${(2 * Math.PI).toFixed(2)} patches to ${Math.round(2 * Math.PI * 10000 ** (1 - 4 / width)).toLocaleString("en")}.`,
    "", "How alike are two positions that lie so many patches apart, in one row or column? (cosine)",
  );
  const distances = similarityByDistance(embedding);
  table(["patches apart", "mean", "least", "most"], distances.filter(({ distance }) => [0, 1, 2, 4, 8, 13].includes(distance))
    .map(({ distance, mean, least, most }) => [distance, ...[mean, least, most].map((value) => value.toFixed(4))]));
  const spread = (list) => Math.max(...list.map(({ least, most }) => most - least));
  say(
    "", `It depends on the distance alone, not on the place: least and most differ by ${spread(distances).toExponential(0)} at most. So what a network learns about`,
    "neighbours in one corner holds in all of the image.",
    `On a grid of 12 x 16 they differ by ${spread(similarityByDistance(sineCosineTable([12, 16], width))).toFixed(2)}: there the formula scrambles places, as upstream's does, and weights`,
    "trained with it need the same.",
  );
  await writePositionPicture(embedding, join(out, "position-embedding.png"));
}

/** Weights begin so that signals keep their size through many layers. */
function initialisation() {
  heading("2. Initialisation");
  const vit = new VisionTransformer({ embedDim: 384, depth: 1, numClasses: 1000, patchSize: 16 });
  const { attn, mlp } = vit.blocks.layers[0];
  const xavier = (inputs, outputs) => Math.sqrt(2 / (inputs + outputs)); // of a uniform distribution of bound sqrt(6 / (inputs + outputs))
  say("Weights are drawn evenly from -a to a with a = sqrt(6 / (inputs + outputs)) (Xavier); their standard deviation is a / sqrt(3):");
  table(["layer", "inputs", "outputs", "formula", "drawn"], [
    ["patch projection", 3 * 16 * 16, 384, vit.patchEmbed.proj.weight],
    ["query, key, value", 384, 384, attn.qkv.weight],
    ["attention's projection", 384, 384, attn.proj.weight],
    ["MLP, first", 384, 1536, mlp.fc1.weight],
    ["MLP, second", 1536, 384, mlp.fc2.weight],
  ].map(([name, inputs, outputs, weight]) => [name, inputs, outputs, xavier(inputs, outputs).toFixed(5), std(weight).toFixed(5)]));
  say(
    `Query, key and value lie in one matrix of ${attn.qkv.weight.shape.join(" x ")}; taken as one layer it would get ${xavier(384, 3 * 384).toFixed(5)}, too little for each of the three.`,
    `Biases are 0 (the largest here is ${torch.scope(() => attn.qkv.bias.detach().abs().max().item())}), and the class token is all but 0: ${std(vit.clsToken).toExponential(1)}.`,
  );
  vit.dispose();
}

/** The paper's trick: the first layer keeps its random weights, and training is stable. */
function frozenProjection() {
  heading("3. Frozen patch projection");
  for (const stopGradConv1 of [false, true]) {
    const build = (numClasses) => new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 96, depth: 3, numHeads: 3, numClasses, stopGradConv1 });
    const moco = createMoCo({ encoder: build, dim: 32, mlpDim: 64, temperature: 0.2 });
    const { weight } = moco.baseEncoder.patchEmbed.proj;
    const firstQuery = moco.baseEncoder.blocks.layers[0].attn.qkv.weight;
    const [projectionBefore, queryBefore] = [weight, firstQuery].map((each) => torch.keep(torch.scope(() => each.detach().clone())));
    const trained = [...moco.parameters()].filter((each) => each.requiresGrad);
    const optimizer = new AdamW(trained, { lr: 1e-3, weightDecay: 0.1 });
    torch.scope(() => moco.forward(torch.randn([16, 3, 32, 32]), torch.randn([16, 3, 32, 32]), 0.99).backward());
    const norm = (parameter) => (parameter.grad === null ? "none" : torch.scope(() => parameter.grad.norm().item()).toFixed(3));
    const gradients = [norm(weight), norm(firstQuery)];
    optimizer.step();
    const moved = (now, before) => torch.scope(() => now.detach().sub(before).abs().max().item()).toExponential(1);
    say(
      `${stopGradConv1 ? "Frozen " : "Trained"}: gradient of the projection ${gradients[0]}, of the first block ${gradients[1]}; ` +
        `one step moves the projection by ${moved(weight, projectionBefore)}, the block by ${moved(firstQuery, queryBefore)}.`,
    );
    optimizer.zeroGrad();
    for (const each of [projectionBefore, queryBefore, moco]) each.dispose();
  }
  say(
    "The paper saw sudden large gradients arrive in this layer first; with random weights that stay as they are, training is steadier and",
    "the encoder better (its section 4.2). What the projection does not learn, the blocks behind it do.",
  );
}

/** Patches cut with a knife, or four small convolutions. */
function stems() {
  heading("4. ConvStem against patchify");
  const images = torch.randn([2, 3, 224, 224]);
  const stems = { "one projection": new PatchEmbed([224, 224], 16, 384), "ConvStem": new ConvStem([224, 224], 16, 384) };
  for (const stem of Object.values(stems)) stem.eval();
  table(["stem of vit_small", "parameters", "GFLOP an image", "ms an image", "tokens"], Object.entries(stems).map(([name, stem]) => {
    const tokens = torch.noGrad(() => torch.scope(() => stem.forward(images).shape));
    const started = performance.now();
    for (let i = 0; i < 3; i++) torch.noGrad(() => torch.scope(() => void stem.forward(images)));
    return [name, millions(parametersOf(stem)), (flopOf(stem) / 1e9).toFixed(2), ((performance.now() - started) / 6).toFixed(1), tokens.slice(1).join(" x ")];
  }));
  const block = new VisionTransformer({ embedDim: 384, depth: 1, numClasses: 0 });
  const one = block.blocks.layers[0];
  const linears = [one.attn.qkv, one.attn.proj, one.mlp.fc1, one.mlp.fc2].reduce((sum, { weight }) => sum + weight.numel(), 0);
  say(
    `A block of vit_small has ${millions(parametersOf(one))} parameters and takes ${((2 * 197 * linears + 4 * 197 * 197 * 384) / 1e9).toFixed(2)} GFLOP, about as many as the ConvStem, so vit_conv_small has one`,
    "block fewer (11). Its convolutions of stride 2 see edges and colours before tokens are made, which trains stably without a frozen layer.",
  );
  for (const each of [images, block, ...Object.values(stems)]) each.dispose();
}

/** Multiplications and additions for one image, read off the layers and the sizes of what they give. */
function flopOf(stem) {
  return torch.noGrad(() => torch.scope(() => {
    let [picture, flop] = [torch.zeros([1, 3, 224, 224]), 0];
    for (const layer of stem.proj instanceof Conv2d ? [stem.proj] : stem.proj.layers) {
      picture = layer.forward(picture);
      if (layer instanceof Conv2d) flop += 2 * picture.numel() * (layer.weight.numel() / layer.weight.shape[0]);
    }
    return flop;
  }));
}

/** What both stems begin with, as a page. */
async function pictures() {
  const vit = new VisionTransformer({ embedDim: 384, depth: 1, numClasses: 0, stopGradConv1: true });
  const conv = new VisionTransformer({ embedDim: 384, depth: 1, numClasses: 0, stem: "conv" });
  const figures = [
    await filterFigure(vit.patchEmbed.proj.weight, { layer: "patch projection", frozen: true }),
    { ...(await filterFigure(conv.patchEmbed.proj.layers[0].weight, { layer: "first convolution", frozen: null })), id: "first-convolution" },
  ];
  await writeFile(join(out, "filters.html"), figurePage({ title: "What the stems begin with", lead: "Random weights of a patch projection and of a ConvStem.", figures }));
  for (const each of [vit, conv]) each.dispose();
  say("", `Pictures: ${join(out, "position-embedding.png")}, ${join(out, "filters.html")}`);
}
