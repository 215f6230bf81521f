// A map of patches in words and numbers: for readers of screens, and to take along.

import { element } from "../dom.js";

/** Decimals that tell the values of a range apart: 3 for cosines, more for attention, whose values are small. */
export function decimalsFor([low, high]) {
  const span = Math.max(high - low, 1e-9);
  return Math.max(2, Math.min(8, 2 - Math.floor(Math.log10(span))));
}

/** A number with a real minus sign. */
export function inNumbers(value, decimals = 3) {
  return value.toFixed(decimals).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
}

/** The patch with the largest value, of those whose centre lies in the picture. */
export function strongest(answer, map) {
  const { box, grid: [rows, columns], width, height } = answer;
  let best = null;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const x = box.x + ((column + 0.5) * box.width) / columns;
      const y = box.y + ((row + 0.5) * box.height) / rows;
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      if (best === null || map[row][column] > best.value) best = { row, column, value: map[row][column], x: x / width, y: y / height };
    }
  }
  return best;
}

/** Where a place lies in the picture, in words; x and y in [0, 1]. Left and right are the picture's, not the patient's. */
export function placeInWords({ x, y }) {
  const vertical = ["upper", "middle", "lower"][Math.min(2, Math.floor(y * 3))];
  const horizontal = ["left", "centre", "right"][Math.min(2, Math.floor(x * 3))];
  return vertical === "middle" && horizontal === "centre" ? "the centre of the picture" : `the ${vertical} ${horizontal} of the picture`;
}

/** The map as a table: rows from the top of the picture, columns from its left. */
export function tableOf(map, decimals, caption) {
  const head = element("tr", {}, element("th", { scope: "col" }, "Row"));
  map[0].forEach((_, column) => head.append(element("th", { scope: "col" }, String(column + 1))));
  const body = map.map((values, row) =>
    element(
      "tr", {},
      element("th", { scope: "row" }, String(row + 1)),
      ...values.map((value) => element("td", {}, inNumbers(value, decimals))),
    ),
  );
  return element(
    "table", { class: "numbers" },
    element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body),
  );
}

/** All maps of an answer as CSV: a line for each patch. A phrase that a spreadsheet would run as a formula is quoted from it. */
export function csvOf(answer) {
  const cell = (text) => `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  const lines = ["phrase,score,row,column,value"];
  for (const { phrase, score, map } of answer.phrases) {
    map.forEach((values, row) =>
      values.forEach((value, column) => lines.push(`${cell(phrase)},${score},${row + 1},${column + 1},${value}`)),
    );
  }
  return `${lines.join("\r\n")}\r\n`;
}
