// Lines of equal similarity, by marching squares.

// Between which edges of a cell a line runs, by which of its corners are above the level: 1 upper left, 2 upper right,
// 4 lower right, 8 lower left. 5 and 10 are saddles: two lines, and the mean of the corners says which two.
const TOP = 0, RIGHT = 1, BOTTOM = 2, LEFT = 3;
const LINES = [
  [], [[LEFT, TOP]], [[TOP, RIGHT]], [[LEFT, RIGHT]],
  [[RIGHT, BOTTOM]], null, [[TOP, BOTTOM]], [[LEFT, BOTTOM]],
  [[BOTTOM, LEFT]], [[BOTTOM, TOP]], null, [[BOTTOM, RIGHT]],
  [[RIGHT, LEFT]], [[RIGHT, TOP]], [[TOP, LEFT]], [],
];
const JOINED = { 5: [[LEFT, BOTTOM], [RIGHT, TOP]], 10: [[TOP, LEFT], [BOTTOM, RIGHT]] }; // the middle is above
const APART = { 5: [[LEFT, TOP], [RIGHT, BOTTOM]], 10: [[TOP, RIGHT], [BOTTOM, LEFT]] };

/**
 * The pieces of a line, one or two in each cell that it crosses.
 *
 * @param grid see `finerGrid`
 * @param level the value that the line is drawn at; "above" is more than it
 * @returns {[number, number, ...][]} pairs of crossings; a crossing is an edge of the grid, see `crossing`
 */
export function segments({ rows, columns, values }, level) {
  const found = [];
  for (let row = 0; row + 1 < rows; row++) {
    for (let column = 0; column + 1 < columns; column++) {
      const at = row * columns + column;
      const corners = [values[at], values[at + 1], values[at + columns + 1], values[at + columns]];
      const above = corners.reduce((bits, value, corner) => bits | (value > level ? 1 << corner : 0), 0);
      const edges = [2 * at, 2 * (at + 1) + 1, 2 * (at + columns), 2 * at + 1];
      const middle = (corners[0] + corners[1] + corners[2] + corners[3]) / 4;
      const lines = LINES[above] ?? (middle > level ? JOINED : APART)[above];
      for (const [from, to] of lines) found.push([edges[from], edges[to]]);
    }
  }
  return found;
}

/** Where a line crosses an edge of the grid: 2 · node for the edge to its right, 2 · node + 1 for the one below it. */
export function crossing({ columns, values }, level, edge) {
  const node = edge >> 1;
  const down = edge & 1;
  const other = node + (down ? columns : 1);
  const share = (level - values[node]) / (values[other] - values[node]);
  const column = node % columns;
  const row = (node - column) / columns;
  return down ? [column, row + share] : [column + share, row];
}

/**
 * Isolines of one level.
 *
 * @returns {{points: [number, number][], closed: boolean}[]} points are [x, y] in steps of the grid
 */
export function isolines(grid, level) {
  const found = segments(grid, level);
  const at = new Map(); // edge → the pieces that end there: one at the border, else two
  found.forEach((piece, index) => {
    for (const edge of piece) at.set(edge, [...(at.get(edge) ?? []), index]);
  });
  const used = new Uint8Array(found.length);
  const follow = (start, edge) => {
    const edges = [edge];
    for (let index = start; index !== undefined && !used[index]; ) {
      used[index] = 1;
      edge = found[index][0] === edge ? found[index][1] : found[index][0];
      edges.push(edge);
      index = at.get(edge).find((next) => !used[next]);
    }
    return edges;
  };
  const lines = [];
  // Open lines first, from their ends; what is left are rings.
  for (const [edge, pieces] of at) if (pieces.length === 1 && !used[pieces[0]]) lines.push(follow(pieces[0], edge));
  found.forEach((piece, index) => {
    if (!used[index]) lines.push(follow(index, piece[0]));
  });
  return lines.map((edges) => ({
    points: edges.map((edge) => crossing(grid, level, edge)),
    closed: edges.length > 2 && edges[0] === edges[edges.length - 1],
  }));
}

/** Round values inside a range, at most `most` of them, at equal distances of 1, 2, 2.5 or 5 times a power of ten. */
export function levelsIn([low, high], most = 9) {
  if (!(high > low)) return [];
  const magnitude = 10 ** Math.floor(Math.log10((high - low) / most));
  for (const factor of [1, 2, 2.5, 5, 10, 20]) {
    const step = factor * magnitude;
    const first = Math.floor(low / step) + 1;
    const count = Math.ceil(high / step) - first;
    if (count <= most) return Array.from({ length: count }, (_, index) => (first + index) * step);
  }
  return [];
}
