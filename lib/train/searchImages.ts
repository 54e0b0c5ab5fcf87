import { stat } from "node:fs/promises";
import { relative, resolve } from "node:path";
import { ImageFolder, openImages, type BadImage, type ImageSource, type ImageStream } from "../data/index.js";
import { embeddingEndings, readEmbeddings } from "./embeddings/embeddingFile.js";
import { gatherFeatures, type FeatureBank } from "./neighbours/featureBank.js";
import type { FeatureExtractor } from "./features.js";
import { loadExtractor, type LoadExtractorOptions } from "./loadExtractor.js";
import {
  defaultThreshold, NearestError, NearestImages, type DuplicateGroup, type DuplicateOptions, type Neighbour, type NearestOptions, type NearestProgress,
} from "./neighbours/nearest.js";
import { OptionError, requireRange } from "./options.js";

/** Where images to compare come from, and how their features are computed where they are not there yet. */
export interface ComparedImagesOptions extends Omit<NearestOptions, "onProgress">, LoadExtractorOptions {
  /** Checkpoint whose encoder computes features: of any kind that `moco convert` reads, or a run's folder. */
  pretrained?: string;
  /** Turn pictures upright as their EXIF orientation says. Default false. */
  exif?: boolean;
  onProgress?(progress: NearestProgress | { stage: "features"; done: number; total: number }): void;
}

/** What is searched, and with which encoder. */
export interface SearchImagesOptions extends ComparedImagesOptions {
  /** What to search: images as `openImages` takes them, or an embeddings file. */
  in: string;
  /** How many images to find for each query. Default 10, or all where there are fewer. */
  k?: number;
}

/** The images nearest to one query. */
export interface SearchResult {
  /** In the order of the queries. */
  results: { query: string; neighbours: Neighbour[] }[];
  /** Images among which they were found. */
  images: number;
  approximate: boolean;
  /** What could not be read. */
  bad: BadImage[];
}

/** Groups of near-duplicates. */
export interface DuplicatesResult {
  /** The largest first. */
  groups: DuplicateGroup[];
  images: number;
  threshold: number;
  approximate: boolean;
  bad: BadImage[];
}

const defaultNeighbours = 10;

/**
 * Finds the images nearest to each query. A query is an image file, or the name of one of the images; one of the images is not among its own
 * neighbours.
 *
 * @throws NearestError for a query that is neither, or does not decode, and as `NearestImages`; the errors of images and checkpoint
 */
export async function searchImages(queries: readonly string[], options: SearchImagesOptions): Promise<SearchResult> {
  using compared = await ComparedImages.open(options.in, options);
  const { nearest, bad } = compared;
  const rows = await Promise.all(queries.map((query) => compared.rowOf(query)));
  const files = queries.filter((_, i) => rows[i] === null);
  const ofThem = rows.filter((row) => row !== null);
  const others = nearest.length - (ofThem.length > 0 ? 1 : 0);
  const k = options.k ?? Math.max(1, Math.min(defaultNeighbours, others));
  const vectors = await compared.embed(files); // before a long search: a query may not decode
  const [ofRows, ofFiles] = [
    ofThem.length > 0 ? await nearest.searchRows(ofThem, k) : [], files.length > 0 ? await nearest.search(vectors, k) : [],
  ];
  const results = queries.map((query, i) => ({ query, neighbours: (rows[i] === null ? ofFiles : ofRows).shift()! }));
  return { results, images: nearest.length, approximate: nearest.isApproximate, bad };
}

/**
 * Finds groups of near-duplicates, see {@link NearestImages.duplicates}.
 *
 * @param images as `openImages` takes them, or an embeddings file
 * @throws the errors of images and checkpoint, and as `NearestImages`
 */
export async function findDuplicates(
  images: string, { threshold = defaultThreshold, raw, ...options }: ComparedImagesOptions & DuplicateOptions,
): Promise<DuplicatesResult> {
  requireRange("threshold", threshold, Number.MIN_VALUE, 1);
  using compared = await ComparedImages.open(images, options);
  const { nearest, bad } = compared;
  const groups = await nearest.duplicates({ threshold, raw });
  return { groups, images: nearest.length, threshold, approximate: nearest.isApproximate, bad };
}

/** Images that are compared, and the encoder for what comes to them. */
class ComparedImages {
  private constructor(
    readonly nearest: NearestImages, readonly bad: BadImage[], private readonly folder: ImageFolder | null,
    private readonly extractor: FeatureExtractor | null, private readonly exif: boolean | undefined,
  ) {}

  static async open(path: string, options: ComparedImagesOptions): Promise<ComparedImages> {
    const { pretrained, exif, onProgress } = options;
    const isFile = embeddingEndings.some((ending) => path.toLowerCase().endsWith(ending)) && !/^[\w-]+:/.test(path);
    if (!isFile && pretrained === undefined) {
      throw new OptionError(`${path} is no embeddings file (${embeddingEndings.join(", ")}), so its features must be computed: say with which checkpoint (--pretrained)`);
    }
    const source = isFile ? null : await openImages(path);
    const extractor = pretrained === undefined ? null : await loadExtractor(pretrained, options);
    try {
      const { names, features, bad } = source === null ? { ...(await readEmbeddings(path)), bad: [] } : await embedded(source);
      const nearest = await NearestImages.from({ names, features }, options);
      return new ComparedImages(nearest, bad, source instanceof ImageFolder ? source : null, extractor, exif);
    } catch (error) {
      extractor?.encoder.dispose();
      throw error;
    }

    async function embedded(images: ImageSource | ImageStream): Promise<FeatureBank & { names: string[] }> {
      const names: string[] = [];
      const bank = await gatherFeatures(extractor!, images, {
        exif,
        onBatch: (batch) => {
          names.push(...batch.names);
          onProgress?.({ stage: "features", done: names.length, total: images.length });
        },
      });
      return { ...bank, names };
    }
  }

  /** The row of a query that is one of the images; null for a file of its own. */
  async rowOf(query: string): Promise<number | null> {
    const isFile = (await stat(query).catch(() => null))?.isFile() ?? false;
    // A file is what lies there, even if another image has its name; within the folder that is searched both are the same.
    const name = isFile && this.folder !== null ? relative(this.folder.root, resolve(query)) : query;
    const row = isFile && this.folder === null && this.extractor !== null ? -1 : this.nearest.names.indexOf(name);
    if (row >= 0) return row;
    if (isFile && this.extractor !== null) return null;
    const remedy = isFile ? "it is none of the embedded images: say with which checkpoint its features are computed (--pretrained)"
      : "give an image file, or the name of one of the images, such as " + this.nearest.names[0];
    throw new NearestError(isFile ? `${query} cannot be compared: ${remedy}` : `there is no image ${query}; ${remedy}`);
  }

  /** Feature vectors of image files. */
  async embed(files: readonly string[]): Promise<Float32Array[]> {
    if (files.length === 0) return [];
    const source: ImageSource = { length: files.length, name: (index) => files[index]!, image: (index) => files[index]! };
    using table = await this.extractor!.extract(source, { exif: this.exif });
    const [bad] = table.bad;
    if (bad) throw new NearestError(`the query ${bad.name} cannot be read: ${bad.reason}; mend the file, or leave it out`);
    const data = table.features.data() as Float32Array;
    const dim = table.features.size(1);
    return files.map((_, i) => data.subarray(i * dim, (i + 1) * dim));
  }

  [Symbol.dispose](): void {
    this.nearest.dispose();
    this.extractor?.encoder.dispose();
  }
}
