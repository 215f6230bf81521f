// Draws a map over a radiograph: as colours, and as lines of equal similarity.

import { colourAt, cssColour, shareOf, strength } from "./colours.js";
import { bilinear, finerGrid } from "./interpolation.js";
import { isolines, levelsIn } from "./isolines.js";
import { decimalsFor, inNumbers } from "./values.js";

const FINER = 8; // steps of the isolines' grid in each patch: curves instead of polygons, as in the command's overlay
const HALO = "rgb(0 0 0 / 65%)"; // under lines and numbers, so that they are seen on bone as on lung
const WHITE_IN_LINES = 0.3; // the palettes' dark ends are too dark for lines on a dark film
const WHITE_IN_NUMBERS = 0.6;
const LABELS_FROM = 280; // pixels of width; on less there is no room for numbers

/**
 * Draw one map.
 *
 * @param context of a canvas on which the picture takes `width` × `height`, from its upper left corner
 * @param answer of /ground
 * @param shown which of its phrases
 * @param settings {{heat: boolean, isolines: boolean, smooth: boolean, opacity: number in [0, 1], palette: string,
 *   range: [number, number]}}
 * @param thickness of lines, 1 for a screen
 */
export function paintMap(context, { width, height }, answer, shown, settings, thickness = 1) {
  const map = answer.phrases[shown].map;
  const box = scaledBox(answer, width, height);
  context.save();
  context.beginPath();
  context.rect(0, 0, width, height);
  context.clip();
  if (settings.heat) paintHeat(context, box, map, settings);
  if (settings.isolines) paintIsolines(context, box, map, settings, thickness, width);
  paintEdge(context, box, thickness);
  context.restore();
}

/** The square that the model sees, in pixels of a canvas. */
export function scaledBox({ box, width: fullWidth, height: fullHeight }, width, height) {
  const [across, down] = [width / fullWidth, height / fullHeight];
  return { x: box.x * across, y: box.y * down, width: box.width * across, height: box.height * down };
}

/** Mark one patch. */
export function paintPatch(context, size, answer, { row, column }, thickness = 1) {
  const [rows, columns] = answer.grid;
  const box = scaledBox(answer, size.width, size.height);
  const [width, height] = [box.width / columns, box.height / rows];
  for (const [colour, line] of [["black", 4], ["white", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = line * thickness;
    context.strokeRect(box.x + column * width, box.y + row * height, width, height);
  }
}

function paintHeat(context, box, map, { smooth, opacity, palette, range }) {
  const each = smooth ? 12 : 1; // pixels for a patch; the canvas enlarges them
  const [rows, columns] = [map.length * each, map[0].length * each];
  const small = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
  const drawn = small.getContext("2d");
  const pixels = drawn.createImageData(columns, rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const value = smooth ? bilinear(map, (column + 0.5) / each, (row + 0.5) / each) : map[row][column];
      const share = shareOf(value, range);
      pixels.data.set([...colourAt(palette, share), 255 * opacity * strength(palette, share)], 4 * (row * columns + column));
    }
  }
  drawn.putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, box.x, box.y, box.width, box.height);
}

const grids = new WeakMap();

function gridOf(map) {
  if (!grids.has(map)) grids.set(map, finerGrid(map, FINER));
  return grids.get(map);
}

function paintIsolines(context, box, map, { palette, range }, thickness, width) {
  const grid = gridOf(map);
  const place = ([x, y]) => [box.x + (x / (grid.columns - 1)) * box.width, box.y + (y / (grid.rows - 1)) * box.height];
  const levels = levelsIn(range).map((level) => ({ level, lines: isolines(grid, level) }));
  context.lineJoin = context.lineCap = "round";
  const stroke = ({ lines }, colour, line) => {
    context.strokeStyle = colour;
    context.lineWidth = line * thickness;
    context.beginPath();
    for (const { points, closed } of lines) {
      points.forEach((point, index) => context[index ? "lineTo" : "moveTo"](...place(point)));
      if (closed) context.closePath();
    }
    context.stroke();
  };
  for (const each of levels) stroke(each, HALO, 3.5);
  for (const each of levels) stroke(each, cssColour(palette, shareOf(each.level, range), WHITE_IN_LINES), 1.6);
  if (width >= LABELS_FROM * thickness) paintNumbers(context, levels, place, palette, range, thickness, box);
}

/** Each level's number on its longest line, where no other number stands. */
function paintNumbers(context, levels, place, palette, range, thickness, box) {
  const taken = [];
  context.font = `600 ${11 * thickness}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 3 * thickness;
  for (const { level, lines } of levels) {
    const longest = lines.reduce((best, line) => (line.points.length > (best?.points.length ?? 20) ? line : best), null);
    if (!longest) continue;
    const text = inNumbers(level, decimalsFor(range) - 1);
    const [wide, high] = [context.measureText(text).width / 2 + 4 * thickness, 9 * thickness];
    const free = [0.5, 0.25, 0.75, 0.1, 0.9]
      .map((share) => place(longest.points[Math.floor(share * (longest.points.length - 1))]))
      .find(
        ([x, y]) =>
          x - wide > Math.max(0, box.x) && x + wide < box.x + box.width && y - high > Math.max(0, box.y) && y + high < box.y + box.height &&
          taken.every(([left, top, reach]) => Math.abs(x - left) > wide + reach || Math.abs(y - top) > 2 * high),
      );
    if (!free) continue;
    taken.push([...free, wide]);
    context.strokeStyle = HALO;
    context.strokeText(text, ...free);
    context.fillStyle = cssColour(palette, shareOf(level, range), WHITE_IN_NUMBERS);
    context.fillText(text, ...free);
  }
}

function paintEdge(context, box, thickness) {
  context.setLineDash([6 * thickness, 5 * thickness]);
  context.lineWidth = thickness;
  context.strokeStyle = "rgb(255 255 255 / 60%)";
  context.strokeRect(box.x, box.y, box.width, box.height);
  context.setLineDash([]);
}

/** The palette from its lowest colour to its highest. */
export function paintLegend(canvas, palette) {
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x++) {
    context.fillStyle = cssColour(palette, x / (canvas.width - 1));
    context.fillRect(x, 0, 1, canvas.height);
  }
}
