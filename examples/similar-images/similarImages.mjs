/** Which of a folder's images look like a given one: their feature vectors in one matrix, compared by their angle. */
import { ImageFolder } from "moco-v3/data";
import * as torch from "moco-v3/torch";

export class SimilarImages {
  #files;
  #features; // [N, dim], rows of length 1

  constructor(files, features) {
    this.#files = files;
    this.#features = features;
  }

  /** Embeds all images of a folder; what cannot be read is told of and left out. */
  static async of(folder, embedder) {
    const images = await ImageFolder.open(folder);
    const places = Array.from({ length: images.length }, (_, index) => index);
    const outcomes = await embedder.embedSettled(places.map((index) => images.image(index)), { whenFull: "wait" });
    const rows = places.filter((index) => outcomes[index].status === "fulfilled");
    for (const { status, reason } of outcomes) if (status === "rejected") console.error(`left out: ${reason.message}`);
    if (rows.length === 0) throw new Error(`${folder} has no image that can be read`);
    const values = new Float32Array(rows.length * embedder.dim);
    rows.forEach((index, row) => values.set(outcomes[index].value, row * embedder.dim));
    return new SimilarImages(rows.map((index) => images.name(index)), torch.keep(unitRows(torch.tensor(values, [rows.length, embedder.dim]))));
  }

  get length() {
    return this.#files.length;
  }

  /** The `k` images whose vectors have the smallest angle to `vector`, nearest first, with the cosine of it. */
  nearest(vector, k) {
    return torch.scope(() => {
      const query = unitRows(torch.tensor(vector, [1, vector.length]));
      const [cosines, rows] = torch.topk(torch.mm(query, this.#features.t()).squeeze(0), Math.min(k, this.length));
      const similarities = cosines.toArray();
      return rows.toArray().map((row, place) => ({ file: this.#files[row], similarity: similarities[place] }));
    });
  }
}

function unitRows(rows) {
  return torch.scope(() => rows.div(torch.linalgVectorNorm(rows, 2, [1], true).clamp(1e-12)));
}
