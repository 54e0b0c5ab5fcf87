/** One picture or chart of a report, with the words that belong to it. */
export interface Figure {
  /** Anchor in the page, unique in it: letters, digits and hyphens. */
  id: string;
  title: string;
  /** What is seen and how to read it, in a sentence or two of plain words; with units. Plain text. */
  caption: string;
  /** HTML or SVG that needs nothing from elsewhere: pictures are data: URIs. Colours of lines and text come from the page's custom properties. */
  body: string;
}
