import type { FuzzInput } from "./fuzzTarget.js";

/**
 * The smallest file that `fails` as the input does, by leaving out parts (a pickle's opcodes, with the container around them made anew;
 * else bytes), larger pieces first.
 *
 * @param fails - whether a file shows the same fault
 */
export async function shrink(input: FuzzInput, fails: (bytes: Buffer) => Promise<boolean>): Promise<Buffer> {
  const { parts } = input;
  if (parts !== undefined) {
    const all = Array.from({ length: parts.count }, (_, i) => i);
    if (await fails(parts.build(all))) return parts.build(await leaveOut(all, (kept) => fails(parts.build(kept))));
  }
  const bytes = Array.from(input.bytes.keys());
  const pick = (kept: readonly number[]): Buffer => Buffer.from(kept.map((i) => input.bytes[i] as number));
  return pick(await leaveOut(bytes, (kept) => fails(pick(kept))));
}

/** Items that are needed: tries without a half, a quarter, ... and at last without each single one. */
async function leaveOut(items: readonly number[], fails: (kept: readonly number[]) => Promise<boolean>): Promise<readonly number[]> {
  let kept = items;
  for (let size = Math.ceil(kept.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < kept.length;) {
      const candidate = [...kept.slice(0, at), ...kept.slice(at + size)];
      if (await fails(candidate)) kept = candidate;
      else at += size;
    }
  }
  return kept;
}
