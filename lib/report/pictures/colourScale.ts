/** Red, green and blue, 0 to 255. */
export type Colour = readonly [number, number, number];

/** A number as a colour. */
export interface ColourScale {
  from: number;
  to: number;
  /** What the numbers are, with their unit. */
  label: string;
  /** Colours at even distances; those between are interpolated. */
  stops: readonly Colour[];
}

const colours = (hex: string): Colour[] =>
  hex.split(" ").map((each) => [0, 2, 4].map((at) => parseInt(each.slice(at, at + 2), 16)) as unknown as Colour);

/** Viridis (Smith and van der Walt, 2015, CC0): lightness grows evenly, also for the colour-blind and in grey print. */
const viridis = colours(
  "440154 48196b 472d7b 424086 3b528b 34638d 2c728e 27828e 21918d 1f9f88 28ae80 3ebc74 5dc963 82d34c abdc32 d5e21b fde725",
);
/** ColorBrewer's RdBu, from blue over white to red: the sign is the hue, the size the darkness. */
const blueToRed = colours("134b85 2f78b3 5da2cb 9dcae1 d2e5ef f2efee fbdbc9 f4ae91 df745e bf363a 8c0d25");
/** Of what is no number. */
const grey: Colour = [128, 128, 128];

/** For sizes: dark is little, bright is much. */
export function magnitudes(from: number, to: number, label: string): ColourScale {
  return { from, to, label, stops: viridis };
}

/** For numbers of both signs: white is 0, and both ends are equally far from it. */
export function signed(largest: number, label: string): ColourScale {
  return { from: -largest, to: largest, label, stops: blueToRed };
}

/** The colour of a number; beyond the ends it is that of the end. */
export function colourOf({ from, to, stops }: ColourScale, value: number): Colour {
  if (Number.isNaN(value)) return grey;
  const share = to > from ? Math.min(1, Math.max(0, (value - from) / (to - from))) : 0.5;
  const place = share * (stops.length - 1);
  const below = Math.min(stops.length - 2, Math.floor(place));
  const [a, b] = [stops[below]!, stops[below + 1]!];
  return a.map((channel, i) => Math.round(channel + (b[i]! - channel) * (place - below))) as unknown as Colour;
}

/** A number on a scale, in as few digits as tell it apart from its neighbours. */
export function scaleText(value: number): string {
  const size = Math.abs(value);
  const text = size === 0 ? "0" : size >= 100 ? value.toFixed(0) : size >= 0.001 ? String(Number(value.toPrecision(2))) : value.toExponential(1);
  return text.replace("-", "−");
}
