/** An operator that libtorch refused: the message names the operator, the reason and what every argument was. */
export class TorchError extends Error {
  override readonly name = "TorchError";
}

/** A tensor whose memory has been given back, by `dispose()` or by the end of its scope, was used. */
export class DisposedTensorError extends Error {
  override readonly name = "DisposedTensorError";
  constructor(operator: string) {
    super(
      `${operator}: the tensor was disposed of, or its scope has ended. ` +
        "Return it from the scope, or keep() it, if it is needed afterwards.",
    );
  }
}

/** A device that libtorch cannot use here: its library, its driver or the device itself is missing. */
export class DeviceUnavailableError extends Error {
  override readonly name = "DeviceUnavailableError";
  constructor(device: string, type: string, count: number) {
    const found = count === 0 ? `libtorch finds no ${type} device` : `libtorch finds ${count} of type ${type}, numbered from 0`;
    super(`${device}: ${found}. Use "cpu", or see what is missing with: npx moco doctor`);
  }
}
