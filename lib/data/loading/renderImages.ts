import type { Tensor } from "../../torch/index.js";
import { givenImage } from "../decoding/readImage.js";
import type { ImageInput } from "../imageInput.js";
import type { ImagePool, RenderOptions, RenderOutcome, Rendering } from "../imagePool.js";

/** An image that its source has yet to give, and what to make of it. */
export interface AskedImage {
  image(): ImageInput | Promise<ImageInput>;
  readonly renderings: readonly Rendering[];
}

/** As `ImagePool.render`, for images that a source has yet to give: one that it cannot give is an outcome with a reason, too. */
export async function renderImages(
  pool: ImagePool, asked: readonly AskedImage[], outputs: readonly Tensor[], options: RenderOptions,
): Promise<RenderOutcome[]> {
  const outcomes = new Array<RenderOutcome>(asked.length);
  const images = await Promise.all(asked.map(async (each, i) => {
    try {
      return await givenImage(() => each.image());
    } catch (error) {
      outcomes[i] = { reason: (error as Error).message };
      return null;
    }
  }));
  const there = images.flatMap((image, i) => (image === null ? [] : [{ i, image }]));
  const rendered = await pool.render(there.map(({ i, image }) => ({ image, renderings: asked[i]!.renderings })), outputs, options);
  rendered.forEach((outcome, k) => (outcomes[there[k]!.i] = outcome));
  return outcomes;
}
