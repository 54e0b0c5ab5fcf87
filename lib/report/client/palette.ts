/** The page's colours, as a canvas takes them: a custom property may say one for light and one for dark. */
export interface Palette {
  ink: string;
  muted: string;
  line: string;
  card: string;
  accent2: string;
  good: string;
  warn: string;
  bad: string;
  /** Of runs, or of lines where there is one run. */
  series: string[];
}

export const seriesColours = 6;

export function readPalette(): Palette {
  const probe = document.createElement("span");
  document.body.append(probe);
  const colour = (name: string): string => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const palette = {
    ink: colour("ink"), muted: colour("muted"), line: colour("line"), card: colour("card"), accent2: colour("accent2"),
    good: colour("good"), warn: colour("warn"), bad: colour("bad"),
    series: Array.from({ length: seriesColours }, (_, i) => colour(`series${i + 1}`)),
  };
  probe.remove();
  return palette;
}

/** A colour that lets through what is behind it. */
export function faint(colour: string, share: number): string {
  return colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);
}
