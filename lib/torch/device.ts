/** Device names as PyTorch writes them: `"cpu"`, `"cuda"`, `"cuda:1"`. */
export type Device = string;

/** `c10::DeviceType` codes of the devices that tensors live on. */
const deviceTypes: Readonly<Record<string, number>> = { cpu: 0, cuda: 1, xpu: 12, mps: 13, meta: 14 };

const pattern = /^([a-z]+)(?::(\d{1,3}))?$/;

/** Whether a text names a device: `cpu`, `cuda`, `cuda:0`. */
export function isDevice(value: unknown): value is Device {
  if (typeof value !== "string") return false;
  const match = pattern.exec(value);
  return match !== null && Object.hasOwn(deviceTypes, match[1] as string);
}

/**
 * Type code and index of a device's name; the index is -1 (the current one) when the name has none.
 * @throws TypeError for names that are not devices.
 */
export function parseDevice(name: Device): { type: number; index: number } {
  const match = pattern.exec(name);
  const type = match ? deviceTypes[match[1] as string] : undefined;
  if (!match || type === undefined) {
    throw new TypeError(`unknown device ${JSON.stringify(name)}; expected ${Object.keys(deviceTypes).join(", ")}, with ":N" for the N-th`);
  }
  return { type, index: match[2] === undefined ? -1 : Number(match[2]) };
}
