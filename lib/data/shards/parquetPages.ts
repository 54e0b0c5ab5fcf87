import type { AsyncBuffer, ColumnMetaData } from "hyparquet";
import { parquetHeader } from "hyparquet/src/column.js";

const usualHeader = 8 * 1024; // bytes; a header with statistics of long values is longer
const largestHeader = 4 * 1024 ** 2;

/**
 * Looks whether the pages of a column say sizes and counts that can be, before they are decoded: a few damaged bits in a page's header can
 * make the decoder work for minutes or take all memory.
 *
 * @throws {RangeError} naming the column and the page.
 */
export async function checkPages(file: AsyncBuffer, column: ColumnMetaData): Promise<void> {
  const values = Number(column.num_values);
  const start = Number(column.dictionary_page_offset || column.data_page_offset);
  const end = start + Number(column.total_compressed_size);
  for (let at = start; at < end - 1;) {
    const { header, length } = await readHeader(file, at, end);
    const { data_page_header: v1, data_page_header_v2: v2, dictionary_page_header: dictionary } = header;
    const page = header.compressed_page_size, unpacked = header.uncompressed_page_size;
    const count = v1?.num_values ?? v2?.num_values ?? 0;
    const possible =
      within(page, end - at - length) && within(unpacked, Number(column.total_uncompressed_size)) && within(count, values) &&
      (!dictionary || within(dictionary.num_values, unpacked)) &&
      (!v2 || (within(v2.num_nulls, count) && within(v2.num_rows, count) &&
        within(v2.definition_levels_byte_length, page) && within(v2.repetition_levels_byte_length, page)));
    if (!possible) throw new RangeError(`the page at byte ${at} of ${column.path_in_schema.join(".")} says sizes that cannot be`);
    at += length + page;
  }
}

function within(value: number, limit: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= limit;
}

async function readHeader(
  file: AsyncBuffer, at: number, end: number,
): Promise<{ header: ReturnType<typeof parquetHeader>; length: number }> {
  for (let window = usualHeader; ; window = largestHeader) {
    const reader = { view: new DataView(await file.slice(at, Math.min(at + window, end))), offset: 0 };
    try {
      return { header: parquetHeader(reader), length: reader.offset };
    } catch (error) {
      if (window === largestHeader || at + window >= end) throw error;
    }
  }
}
