import type { ViewParameters, ViewRecipe } from "../data/augmentation/augmentation.js";
import { jitterOperations } from "../data/augmentation/augmentation.js";
import type { AugmentSheet, SheetRow } from "./augmentSheet.js";
import { percent } from "./htmlPage.js";

export type JitterOperation = keyof typeof jitterOperations;

/** Names of the jitter's operations in the order in which they are applied. */
export function jitterOrder({ jitter }: ViewParameters): JitterOperation[] {
  const names = Object.keys(jitterOperations) as JitterOperation[];
  return (jitter?.order ?? []).map((number) => names.find((name) => jitterOperations[name] === number)!);
}

/** The share of an image's area that a view shows. */
export function cropShare(view: ViewParameters, { width, height }: { width: number; height: number }): number {
  return (view.crop.width * view.crop.height) / (width * height);
}

/** What is done to make a view, one operation a line, in the order in which it is done. */
export function viewWords(view: ViewParameters, row: Pick<SheetRow, "width" | "height">): string[] {
  const { crop, operations = [], jitter, grayscale, blurSigma, solarize, flip } = view;
  const signed = (value: number): string => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
  const jittered = jitterOrder(view).map((name) =>
    name === "hue" ? `hue ${signed(jitter!.hue * 360)}°` : `${name} × ${jitter![name].toFixed(2)}`,
  );
  return [
    `crop ${crop.width} × ${crop.height} at ${crop.left}, ${crop.top}: ${percent(cropShare(view, row))}`,
    ...(flip && operations.length > 0 ? ["flip"] : []),
    ...operations.map(({ name, argument }) => `${name} ${Number(argument.toFixed(2))}`),
    ...jittered,
    ...(grayscale ? ["grayscale"] : []),
    ...(blurSigma === null ? [] : [`blur, σ ${blurSigma.toFixed(2)} px`]),
    ...(solarize === null ? [] : [`solarize from ${solarize}`]),
    ...(flip && operations.length === 0 ? ["flip"] : []),
  ];
}

/** A line of the recipe's table. */
export interface RecipeLine {
  operation: string;
  /** How strong it is; once, where both views have the same. */
  strength: string;
  /** For both views the probability, and what came out among the images shown. */
  views: [{ probability: string; drawn: string }, { probability: string; drawn: string }];
}

/** The recipe of a sheet and what its images drew from it. */
export function recipeLines({ recipes, rows }: AugmentSheet): RecipeLine[] {
  const both = <T>(of: (view: 0 | 1) => T): [T, T] => [of(0), of(1)];
  const counted = (applied: (view: ViewParameters) => boolean) => (view: 0 | 1): string =>
    `${rows.filter((row) => applied(row.views[view])).length} of ${rows.length}`;
  const meanShare = (view: 0 | 1): string =>
    `mean ${percent(rows.reduce((sum, row) => sum + cropShare(row.views[view], row), 0) / rows.length)}`;
  const line = (
    operation: string, strength: (recipe: ViewRecipe) => string, probability: (recipe: ViewRecipe) => number,
    drawn: (view: 0 | 1) => string,
  ): RecipeLine => {
    const [first, second] = both((view) => strength(recipes[view]));
    return {
      operation,
      strength: first === second ? first : `${first}; view 2: ${second}`,
      views: both((view) => ({ probability: percent(probability(recipes[view])), drawn: drawn(view) })),
    };
  };
  const where = (present: boolean, make: () => RecipeLine): RecipeLine[] => (present ? [make()] : []);
  return [
    line("crop, resized", cropStrength, () => 1, meanShare),
    ...where(recipes.some(({ randAugment }) => Boolean(randAugment)), () => line(
      "RandAugment", ({ randAugment }) => (randAugment ? `${randAugment.layers} operations of magnitude ${randAugment.magnitude}` : "none"),
      ({ randAugment }) => randAugment?.probability ?? 0, counted(({ operations = [] }) => operations.length > 0),
    )),
    line("colour jitter", jitterStrength, (recipe) => recipe.jitterProbability, counted((view) => view.jitter !== null)),
    line("grayscale", () => "", (recipe) => recipe.grayscaleProbability, counted((view) => view.grayscale)),
    line("blur", ({ blurSigma: [low, high] }) => `σ ${low} to ${high} pixels`, (recipe) => recipe.blurProbability,
      counted((view) => view.blurSigma !== null)),
    line("solarize", ({ solarizeThreshold }) => `values from ${solarizeThreshold} are inverted`, (recipe) => recipe.solarizeProbability,
      counted((view) => view.solarize !== null)),
    line("flip", () => "left to right", (recipe) => recipe.flipProbability, counted((view) => view.flip)),
    ...where(recipes.some(({ erasing }) => Boolean(erasing)), () => line(
      "erasing (not shown)", ({ erasing }) => (erasing ? `${percent(erasing.area[0])} to ${percent(erasing.area[1])} of the area` : "none"),
      ({ erasing }) => erasing?.probability ?? 0, counted(({ erase }) => Boolean(erase)),
    )),
  ];
}

function cropStrength({ cropScale: [smallest, largest], cropRatio: [narrowest, widest] }: ViewRecipe): string {
  return `${percent(smallest)} to ${percent(largest)} of the area, ${narrowest.toFixed(2)} to ${widest.toFixed(2)} as wide as high`;
}

function jitterStrength(recipe: ViewRecipe): string {
  const words = (Object.keys(jitterOperations) as JitterOperation[]).filter((name) => recipe[name] > 0).map((name) =>
    name === "hue"
      ? `hue ± ${Number((recipe.hue * 360).toFixed(1))}°`
      : `${name} × ${Number(Math.max(0, 1 - recipe[name]).toFixed(2))} to ${Number((1 + recipe[name]).toFixed(2))}`,
  );
  return words.length === 0 ? "nothing" : `${words.join(", ")}; in any order`;
}

/** What a sheet shows, in a sentence. */
export function sheetSummary({ rows, bad, total, seed, epoch, imageSize }: AugmentSheet): string {
  const skipped = bad.length === 0 ? "" : ` (${bad.length} before or among them cannot be read)`;
  const count = (number: number): string => number.toLocaleString("en");
  const which = rows.length === total ? `All ${count(total)} images` : `The first ${count(rows.length)} of ${count(total)} images`;
  return (
    `${which} in the order of epoch ${epoch} with seed ${seed}${skipped}, and the two ` +
    `views of ${imageSize} × ${imageSize} pixels that training makes of each.`
  );
}
