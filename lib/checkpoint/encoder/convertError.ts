/** A checkpoint holds no encoder that can be taken out, or one that the wanted layout cannot express. */
export class ConvertError extends Error {
  override readonly name = "ConvertError";
}
