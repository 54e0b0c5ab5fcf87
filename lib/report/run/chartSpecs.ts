import type { ColumnName } from "./stepColumns.js";

/** A line of a chart: figures of steps, or of epochs. */
export interface LineSpec {
  column: ColumnName | "acc1" | "acc5" | "average" | "loss";
  label: string;
}

/** What a chart shows and how it is read. */
export interface ChartSpec {
  id: string;
  section: SectionId;
  title: string;
  /** Of the vertical axis. */
  unit: string;
  /** How to read it, in a sentence. */
  about: string;
  /** Where the figures come from. */
  source: "steps" | "knn" | "evaluations";
  lines: LineSpec[];
  /** Logarithmic vertical axis. */
  log?: boolean;
  /** Figures jump from step to step, so that a mean of neighbours is drawn too. */
  noisy?: boolean;
  /** The vertical axis has these values in it. */
  include?: number[];
}

export type SectionId = "training" | "accuracy" | "speed" | "stability";

export const sections: { id: SectionId; title: string }[] = [
  { id: "training", title: "Training" },
  { id: "accuracy", title: "Accuracy" },
  { id: "speed", title: "Speed" },
  { id: "stability", title: "Stability" },
];

/** All charts, in the order of the page. One without figures is left out. */
export const chartSpecs: ChartSpec[] = [
  {
    id: "loss", section: "training", title: "Loss", unit: "nats", source: "steps", noisy: true, lines: [{ column: "loss", label: "loss" }],
    about: "What the training makes smaller.",
  },
  {
    id: "lr", section: "training", title: "Learning rate", unit: "rate", source: "steps", include: [0], lines: [{ column: "lr", label: "learning rate" }],
    about: "How far a step goes, after warm-up and decay.",
  },
  {
    id: "momentum", section: "training", title: "Momentum of the momentum encoder", unit: "share kept", source: "steps",
    lines: [{ column: "momentum", label: "momentum" }],
    about: "The share of itself that the momentum encoder keeps in a step: near 1 it follows slowly.",
  },
  {
    id: "train-accuracy", section: "accuracy", title: "Accuracy on training images", unit: "% of the batch", source: "steps", noisy: true,
    lines: [{ column: "acc1", label: "class found" }],
    about: "Share of the batch whose class was the likeliest, while training.",
  },
  {
    id: "evaluation", section: "accuracy", title: "Accuracy on images not trained on", unit: "% of images", source: "evaluations",
    lines: [{ column: "acc1", label: "first guess" }, { column: "acc5", label: "first five" }, { column: "average", label: "first guess, average of weights" }],
    about: "Share of the images whose class is the likeliest one, or among the five likeliest.",
  },
  {
    id: "evaluation-loss", section: "accuracy", title: "Loss on images not trained on", unit: "nats", source: "evaluations",
    lines: [{ column: "loss", label: "loss" }], about: "Mean cross entropy.",
  },
  {
    id: "knn", section: "accuracy", title: "Nearest neighbours", unit: "% of images", source: "knn",
    lines: [{ column: "acc1", label: "first guess" }, { column: "acc5", label: "first five" }],
    about: "Share of labelled images whose class their nearest neighbours vote for: how good the encoder is, without any training with labels.",
  },
  {
    id: "throughput", section: "speed", title: "Throughput", unit: "images per second", source: "steps", noisy: true, include: [0],
    lines: [{ column: "imagesPerSecond", label: "images per second" }], about: "Images of a step over its time, the wait for data included.",
  },
  {
    id: "wait", section: "speed", title: "Waiting for data", unit: "% of step time", source: "steps", noisy: true, include: [0],
    lines: [{ column: "dataWait", label: "wait" }], about: "Near 0: loading keeps up. High: more --workers, smaller files, or --augment gpu help.",
  },
  {
    id: "step-time", section: "speed", title: "Time of a step", unit: "ms", source: "steps", noisy: true, include: [0],
    lines: [{ column: "stepMs", label: "step" }], about: "From the end of the step before to the end of this one.",
  },
  {
    id: "gradient-norm", section: "stability", title: "Gradient", unit: "Euclidean norm", source: "steps", log: true, noisy: true,
    lines: [{ column: "gradientNorm", label: "all parameters" }], about: "Length of the gradient of all parameters, before clipping. Spikes are the first sign of trouble.",
  },
  {
    id: "gradient-layers", section: "stability", title: "Gradient by layer", unit: "Euclidean norm", source: "steps", log: true,
    lines: [
      { column: "stem", label: "stem" }, { column: "firstBlock", label: "first block" }, { column: "lastBlock", label: "last block" },
      { column: "projector", label: "projector" }, { column: "predictor", label: "predictor" },
    ],
    about: "Where one line rises alone, trouble begins in that layer: with ViTs mostly in the stem.",
  },
  {
    id: "gradient-ratio", section: "stability", title: "First layers against the others", unit: "× median of blocks", source: "steps",
    log: true, lines: [{ column: "stemRatio", label: "stem" }, { column: "firstBlockRatio", label: "first block" }],
    about: "Gradient of the first layers over the median of the blocks. What is usual depends on the network; watch how it changes.",
  },
  {
    id: "contrast", section: "stability", title: "Own key found", unit: "% of queries", source: "steps", noisy: true, include: [0],
    lines: [{ column: "accuracy", label: "nearest is its own" }],
    about: "Queries whose own key is the nearest of all. A dip means that the training has partly failed.",
  },
  {
    id: "cosines", section: "stability", title: "Likeness of features", unit: "cosine", source: "steps",
    lines: [{ column: "positive", label: "views of one image" }, { column: "negative", label: "different images" }],
    about: "1 is the same direction. The two lines should part; where they meet, all images look alike to the encoder (collapse).",
  },
  {
    id: "spread", section: "stability", title: "Spread of features", unit: "1 = all around", source: "steps", include: [0, 1],
    lines: [{ column: "querySpread", label: "queries" }, { column: "keySpread", label: "keys" }],
    about: "Standard deviation of the features' coordinates over 1/√dim: 1 where they lie all around, 0 where all are the same (collapse).",
  },
  {
    id: "chance", section: "stability", title: "Loss over that of guessing", unit: "ratio", source: "steps", noisy: true, include: [1],
    lines: [{ column: "lossOverChance", label: "ratio" }], about: "Stays at 1 where nothing is learned.",
  },
  {
    id: "distance", section: "stability", title: "Distance of the two encoders", unit: "share of weights", source: "steps", include: [0],
    lines: [{ column: "encoderDistance", label: "distance" }], about: "How far the momentum encoder is behind; in every tenth step.",
  },
  {
    id: "scale", section: "stability", title: "Loss scale", unit: "factor", source: "steps", log: true,
    lines: [{ column: "scale", label: "scale" }], about: "Of float16 training: it halves where a gradient overflows, and grows again.",
  },
];
