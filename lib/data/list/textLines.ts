import { open } from "node:fs/promises";

export interface TextLinesOptions {
  /** Bytes read at a time. Default 1 MiB. */
  groupBytes?: number;
  /** Characters of the longest line. Default 65,536: longer lines are no paths, the file is not text. */
  longest?: number;
}

/** A text file that is not what it should be, with the number of the line, from 1. */
export class TextLineError extends Error {
  override readonly name = "TextLineError";

  constructor(readonly line: number, message: string) {
    super(message);
  }
}

/**
 * The lines of a UTF-8 file, without their ends (`\n` or `\r\n`) and a byte order mark. They come in groups, as an await for each would
 * take longer than the reading.
 *
 * @throws {TextLineError} for bytes that are not UTF-8 and for a line that no text has.
 */
export async function* textLines(path: string, { groupBytes = 1 << 20, longest = 1 << 16 }: TextLinesOptions = {}): AsyncIterable<string[]> {
  const file = await open(path, "r");
  try {
    const decoder = new TextDecoder();
    const buffer = Buffer.alloc(groupBytes);
    let before = 0;
    let rest = "";
    for (let more = true; more;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length);
      more = bytesRead > 0;
      rest += decoder.decode(buffer.subarray(0, bytesRead), { stream: more });
      const lines = rest.split("\n");
      rest = more ? lines.pop()! : "";
      // The end of the last line begins no further one.
      if (!more && lines.at(-1) === "") lines.pop();
      if (rest.length > longest) {
        throw new TextLineError(before + lines.length + 1, `is longer than ${longest} characters: is this a text file?`);
      }
      const group = lines.map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
      const unreadable = group.findIndex((line) => /[\0\ufffd]/.test(line));
      if (unreadable >= 0) throw new TextLineError(before + unreadable + 1, "is not UTF-8 text; save the file as UTF-8");
      yield group;
      before += group.length;
    }
  } finally {
    await file.close();
  }
}
