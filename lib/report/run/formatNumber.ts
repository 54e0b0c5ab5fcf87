const superscripts = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** A figure as a person reads it: four digits that count, thousands apart, powers of ten where there are many zeros. */
export function formatNumber(value: number, digits = 4): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e9)) {
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e") as [string, string];
    const power = [...String(Math.abs(Number(exponent)))].map((digit) => superscripts[Number(digit)]).join("");
    return `${minus(String(Number(mantissa)))} × 10${Number(exponent) < 0 ? "⁻" : ""}${power}`;
  }
  const rounded = size >= 1000 ? Math.round(value) : Number(value.toPrecision(digits));
  return minus(rounded.toLocaleString("en", { maximumFractionDigits: 8 }));
}

/** One tick of an axis: as short as its neighbours allow. */
export function formatTick(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e6 && size < 1e9) return `${formatNumber(value / 1e6)} M`;
  if (size >= 1e4 && size < 1e6) return `${formatNumber(value / 1e3)} k`;
  return formatNumber(value, 6);
}

/** Hours as `2 h 05 min`, `3 min 12 s` or `8 s`. */
export function formatHours(hours: number): string {
  const seconds = Math.round(hours * 3600);
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 10) return `${formatNumber(hours * 3600, 2)} s`;
  const two = (number: number): string => String(number).padStart(2, "0");
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
  return `${Math.floor(minutes / 1440)} days ${Math.floor(minutes / 60) % 24} h`;
}

function minus(text: string): string {
  return text.replace("-", "−");
}
