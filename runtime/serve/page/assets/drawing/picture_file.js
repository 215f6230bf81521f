// The radiograph with its map as a picture to take along, at its full size.

import { cssColour } from "./colours.js";
import { paintMap } from "./paint.js";
import { decimalsFor, inNumbers } from "./values.js";

const LARGEST = 4096; // of a side; browsers have limits for canvases
const SMALLEST = 640; // narrower ones are enlarged: the words below need room

/**
 * Draw the radiograph, the map over it, and what it is below.
 *
 * @param picture <img> of the radiograph; null for none
 * @param notes lines that stand below the phrase
 * @returns {Promise<Blob>} PNG
 */
export function pictureFile(picture, answer, shown, settings, notes) {
  const longest = Math.max(answer.width, answer.height);
  const scale = Math.min(LARGEST / longest, Math.max(1, SMALLEST / answer.width));
  const [width, height] = [answer.width * scale, answer.height * scale].map((side) => Math.max(1, Math.round(side)));
  const unit = width / 640; // sizes of lines and letters go with the picture
  const { phrase, score } = answer.phrases[shown];
  const canvas = Object.assign(document.createElement("canvas"), { width, height: height + 1 });
  const context = canvas.getContext("2d");
  const fonts = { strong: `600 ${18 * unit}px system-ui, sans-serif`, plain: `${14 * unit}px system-ui, sans-serif` };
  const decimals = decimalsFor(settings.range);
  const lines = [
    ...wrapped(context, fonts.strong, `${phrase}: ${inNumbers(score)}`, width - 32 * unit),
    ...notes.flatMap((note) => wrapped(context, fonts.plain, note, width - 32 * unit)),
  ];
  canvas.height = height + Math.ceil((lines.length * 24 + 56) * unit);

  context.fillStyle = "#101214";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (picture) {
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, width, height);
  }
  paintMap(context, { width, height }, answer, shown, settings, unit);
  paintScale(context, settings, decimals, fonts.plain, { x: 16 * unit, y: height + 16 * unit, unit });
  lines.forEach(([font, text], index) => {
    context.font = font;
    context.fillStyle = "#e8e6e3";
    context.textBaseline = "top";
    context.fillText(text, 16 * unit, height + (44 + 24 * index) * unit);
  });
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the canvas gave no picture"))), "image/png");
  });
}

function paintScale(context, { palette, range }, decimals, font, { x, y, unit }) {
  context.font = font;
  context.fillStyle = "#e8e6e3";
  context.textBaseline = "middle";
  const [low, high] = range.map((value) => inNumbers(value, decimals));
  const before = context.measureText(low).width + 8 * unit;
  context.fillText(low, x, y + 6 * unit);
  for (let step = 0; step < 100; step++) {
    context.fillStyle = cssColour(palette, step / 99);
    context.fillRect(x + before + step * 2 * unit, y, 2 * unit + 1, 12 * unit);
  }
  context.fillStyle = "#e8e6e3";
  context.fillText(high, x + before + 208 * unit, y + 6 * unit);
}

/** [font, line] for each line that fits. */
function wrapped(context, font, text, width) {
  context.font = font;
  const lines = [];
  for (const word of text.split(/\s+/)) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && context.measureText(longer).width <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines.map((line) => [font, line]);
}
