/** A member for `tarArchive`; what is left out is what GNU tar would write. */
export interface Member {
  name: string;
  data?: Uint8Array | string;
  type?: string;
  /** What the header says, whatever the data. */
  size?: number;
  /** The size as GNU's base 256, which it uses from 8 GiB on. */
  base256?: boolean;
}

const block = 512;

/** The bytes of a ustar header. */
export function tarHeader({ name, data = "", type = "0", size = Buffer.byteLength(data), base256 = false }: Member): Buffer {
  const header = Buffer.alloc(block);
  header.write(name, 0, 100, "utf8");
  header.write("0000644\x000000000\x000000000\x00", 100, "latin1");
  if (base256) {
    header[124] = 0x80;
    header.writeBigUInt64BE(BigInt(size), 128);
  } else header.write(`${size.toString(8).padStart(11, "0")}\0`, 124, "latin1");
  header.write("00000000000\0", 136, "latin1");
  header.write(type, 156, "latin1");
  header.write("ustar\x0000", 257, "latin1");
  writeChecksum(header);
  return header;
}

/** Makes a header's checksum right again after a change. */
export function writeChecksum(header: Buffer): void {
  header.fill(" ", 148, 156);
  const sum = header.subarray(0, block).reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}

/** An archive, written independently of what is tested. */
export function tarArchive(members: readonly Member[], end = true): Buffer {
  const parts = members.flatMap((member) => {
    const data = Buffer.from((member.data ?? "") as string);
    return [tarHeader(member), data, Buffer.alloc((block - (data.length % block)) % block)];
  });
  return Buffer.concat([...parts, Buffer.alloc(end ? 2 * block : 0)]);
}

/** `count` images of `bytes` bytes with labels 0, 1, 2, 0, ... */
export function imageMembers(count: number, bytes = 10, prefix = ""): Member[] {
  return Array.from({ length: count }, (_, i) => [
    { name: `${prefix}${i}.jpg`, data: Buffer.alloc(bytes, i) },
    { name: `${prefix}${i}.cls`, data: String(i % 3) },
  ]).flat();
}
