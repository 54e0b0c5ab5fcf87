/** Constants of the zip format that reader and writer share (PKWARE's APPNOTE, section 4). */
export const Signature = {
  LOCAL: 0x04034b50,
  DESCRIPTOR: 0x08074b50,
  CENTRAL: 0x02014b50,
  END: 0x06054b50,
  END64: 0x06064b50,
  LOCATOR64: 0x07064b50,
} as const;

/** A 16-bit field's way of saying "see the zip64 record". */
export const SENTINEL16 = 0xffff;
/** The same for 32 bits. */
export const SENTINEL32 = 0xffffffff;
