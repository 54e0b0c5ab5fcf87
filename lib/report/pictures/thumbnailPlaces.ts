/** Where a map's thumbnails go, so that none covers another. Numbers are shares of the map's width and height. */
export interface ThumbnailPlaces {
  /** Centre of each thumbnail, by its point's number. */
  placed: Map<number, [number, number]>;
  /** Points that have none. */
  rest: number[];
}

/** Directions in which a thumbnail moves aside, in thumbnails. */
const moves: readonly [number, number][] = [
  [0, 0], [0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5], [0.7, 0.7], [-0.7, 0.7], [0.7, -0.7], [-0.7, -0.7], [1, 0], [-1, 0], [0, 1], [0, -1],
];

/**
 * Places thumbnails one after the other at their points, or aside by at most a thumbnail's size; a point for which there is no room gets none.
 *
 * @param order in which points get their turn
 * @param size width and height of a thumbnail
 */
export function thumbnailPlaces(
  points: readonly (readonly [number, number])[], order: ArrayLike<number>, [width, height]: readonly [number, number], most: number,
): ThumbnailPlaces {
  const placed: ThumbnailPlaces["placed"] = new Map();
  const rest: number[] = [];
  const inside = (value: number, size: number): number => Math.min(0.995 - size / 2, Math.max(0.005 + size / 2, value));
  const isFree = ([x, y]: readonly [number, number]): boolean => {
    for (const [otherX, otherY] of placed.values()) {
      if (Math.abs(x - otherX) < 0.999 * width && Math.abs(y - otherY) < 0.999 * height) return false;
    }
    return true;
  };
  for (let turn = 0; turn < order.length; turn++) {
    const point = order[turn]!;
    const [x, y] = points[point]!;
    const place = placed.size >= most ? undefined
      : moves.map(([right, down]): [number, number] => [inside(x + right * width, width), inside(y + down * height, height)]).find(isFree);
    if (place) placed.set(point, place);
    else rest.push(point);
  }
  return { placed, rest };
}
