// A map of patches at other places than the patches' centres.

/**
 * The value between the centres of patches, bilinear; beyond the outermost centres as at them.
 *
 * @param map number[][], rows of columns
 * @param x in patches from the left edge of the map, so that the first centre is at 0.5
 * @param y in patches from its top edge
 */
export function bilinear(map, x, y) {
  const [above, below, down] = neighbours(y, map.length);
  const [left, right, across] = neighbours(x, map[0].length);
  const upper = map[above][left] + (map[above][right] - map[above][left]) * across;
  const lower = map[below][left] + (map[below][right] - map[below][left]) * across;
  return upper + (lower - upper) * down;
}

function neighbours(position, count) {
  const at = Math.max(0, Math.min(count - 1, position - 0.5));
  const first = Math.min(Math.floor(at), Math.max(0, count - 2));
  return [first, Math.min(first + 1, count - 1), at - first];
}

/**
 * The map on a finer grid that reaches from edge to edge.
 *
 * @param finer steps of the grid in each patch
 * @returns {{rows: number, columns: number, values: Float64Array}} rows · finer + 1 rows, likewise columns
 */
export function finerGrid(map, finer) {
  const rows = map.length * finer + 1;
  const columns = map[0].length * finer + 1;
  const values = new Float64Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      values[row * columns + column] = bilinear(map, column / finer, row / finer);
    }
  }
  return { rows, columns, values };
}

/** Row and column of the patch at a place of the map; null outside it. Nearest neighbour, as the server's own map. */
export function patchAt(map, x, y) {
  const row = Math.floor(y);
  const column = Math.floor(x);
  return row >= 0 && row < map.length && column >= 0 && column < map[0].length ? { row, column } : null;
}
