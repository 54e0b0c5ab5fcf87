import { extname } from "node:path";
import type { ViewParameters, ViewRecipe } from "../data/augmentation/augmentation.js";
import type { BadImage } from "../data/errors.js";
import type { ImageSource, ImageStream } from "../data/imageSource.js";
import { augmentPage } from "./augmentPage.js";
import { drawAugmentSheet, type AugmentSheet, type AugmentSheetOptions } from "./augmentSheet.js";
import { cropShare, jitterOrder, type JitterOperation } from "./augmentWords.js";
import { contactSheetPng, hasFonts } from "./contactSheet.js";
import { ReportFileError, writeReportFile } from "./reportFile.js";

/** One view's parameters in a sheet's data. */
export interface ReportedView extends Omit<ViewParameters, "jitter"> {
  /** The share of the image's area that the crop shows. */
  cropShare: number;
  /** The factors; `hue` is a fraction of a turn. */
  jitter: { order: JitterOperation[]; brightness: number; contrast: number; saturation: number; hue: number } | null;
}

/** What was drawn for the images of a sheet. */
export interface AugmentReport {
  /** The file that was written, and its size. */
  out: string | null;
  bytes: number;
  /** Images of the whole source. */
  total: number;
  seed: number;
  epoch: number;
  imageSize: number;
  recipes: [ViewRecipe, ViewRecipe];
  images: { index: number; name: string; label: string | null; width: number; height: number; views: [ReportedView, ReportedView] }[];
  bad: BadImage[];
  warnings: string[];
}

/** Endings of the files that a contact sheet can be written as. */
const sheetEndings = [".html", ".png"] as const;

/**
 * Writes a contact sheet of originals and both views, with all that was drawn for them, as a page or a picture, by the ending of `out`.
 * The file appears complete or not at all.
 *
 * @param out null to write nothing and answer the parameters
 * @throws {AugmentSheetError} when no image can be read.
 * @throws {ReportFileError} for another ending, and when the file cannot be written.
 * @throws {DataOptionError} for an option outside its range.
 * @example
 * await writeAugmentReport(await ImageFolder.open("photos"), "views.html", { rows: 24, cropMin: 0.2 });
 */
export async function writeAugmentReport(
  source: ImageSource | ImageStream, out: string | null, options: AugmentSheetOptions = {},
): Promise<AugmentReport> {
  const ending = out === null ? null : extname(out).toLowerCase();
  if (ending !== null && !(sheetEndings as readonly string[]).includes(ending)) {
    throw new ReportFileError(`${out} has no ending that tells how to write it; end it in ${sheetEndings.join(" or ")}`);
  }
  const sheet = await drawAugmentSheet(source, options);
  const warnings: string[] = [];
  let bytes = 0;
  if (out !== null) {
    const content = ending === ".png" ? await contactSheetPng(sheet) : Buffer.from(await augmentPage(sheet));
    if (ending === ".png" && !(await hasFonts())) {
      warnings.push("this system has no fonts, so the text is boxes: install one (apt-get install fonts-dejavu-core), or write .html");
    }
    await writeReportFile(out, content);
    bytes = content.length;
  }
  return { out, bytes, ...parametersOf(sheet), warnings };
}

function parametersOf(sheet: AugmentSheet): Omit<AugmentReport, "out" | "bytes" | "warnings"> {
  const { total, seed, epoch, imageSize, recipes, rows, bad } = sheet;
  const images = rows.map(({ index, name, label, width, height, views }) => {
    const reported = (view: ViewParameters): ReportedView => {
      const { crop, jitter, grayscale, blurSigma, solarize, flip, interpolation, operations, erase } = view;
      return {
        crop, cropShare: cropShare(view, { width, height }),
        jitter: jitter && { ...jitter, order: jitterOrder(view) },
        grayscale, blurSigma, solarize, flip, interpolation, operations, erase,
      };
    };
    return { index, name, label, width, height, views: [reported(views[0]), reported(views[1])] as [ReportedView, ReportedView] };
  });
  return { total, seed, epoch, imageSize, recipes, images, bad };
}
