// The map on the page: drawn at the screen's resolution, read patch by patch by pointer or keyboard.

import { byId } from "../dom.js";
import { patchAt } from "./interpolation.js";
import { paintLegend, paintMap, paintPatch } from "./paint.js";
import { decimalsFor, inNumbers } from "./values.js";

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** Give the stage a picture's proportions, whether or not the browser can show the picture. */
export function setProportions(stage, width, height) {
  stage.style.aspectRatio = `${width} / ${height}`;
  stage.style.setProperty("--proportions", width / height);
}

/** The canvas over the radiograph; `show` draws, `clear` takes it away. */
export function createMapView() {
  const [stage, canvas, readout, legend] = ["stage", "map", "readout", "legend"].map(byId);
  let shown = null; // {answer, index, settings}
  let patch = null; // {row, column} that is read
  const drawn = document.createElement("canvas"); // the map without the mark of the patch, which moves

  const draw = () => {
    if (!shown) return;
    const [width, height] = [stage.clientWidth, stage.clientHeight];
    const density = window.devicePixelRatio || 1;
    drawn.width = canvas.width = Math.max(1, Math.round(width * density));
    drawn.height = canvas.height = Math.max(1, Math.round(height * density));
    const context = drawn.getContext("2d");
    context.scale(density, density);
    paintMap(context, { width, height }, shown.answer, shown.index, shown.settings);
    mark();
  };
  const mark = () => {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(drawn, 0, 0);
    const density = canvas.width / stage.clientWidth;
    if (patch) paintPatch(context, canvas, shown.answer, patch, density);
  };
  const read = (at) => {
    if (at?.row === patch?.row && at?.column === patch?.column) return;
    patch = at;
    mark();
    say();
  };
  const say = () => {
    const { answer, index, settings } = shown;
    const value = patch && answer.phrases[index].map[patch.row][patch.column];
    readout.textContent = patch
      ? `Row ${patch.row + 1}, column ${patch.column + 1}: ${inNumbers(value, decimalsFor(settings.range))}`
      : "Point at the map, or move over it with the arrow keys, to read values.";
  };
  const under = (event) => {
    const area = canvas.getBoundingClientRect();
    const { answer } = shown;
    const x = ((event.clientX - area.left) / area.width) * answer.width - answer.box.x;
    const y = ((event.clientY - area.top) / area.height) * answer.height - answer.box.y;
    const [rows, columns] = answer.grid;
    return patchAt(answer.phrases[shown.index].map, (x / answer.box.width) * columns, (y / answer.box.height) * rows);
  };
  for (const type of ["pointermove", "pointerdown"]) canvas.addEventListener(type, (event) => shown && read(under(event)));
  canvas.addEventListener("pointerleave", (event) => {
    if (shown && event.pointerType === "mouse" && document.activeElement !== canvas) read(null);
  });
  canvas.addEventListener("keydown", (event) => {
    if (!shown || event.ctrlKey || event.altKey || event.metaKey) return;
    const [rows, columns] = shown.answer.grid;
    const clamp = (value, count) => Math.max(0, Math.min(count - 1, value));
    const from = patch ?? { row: Math.floor(rows / 2), column: Math.floor(columns / 2) };
    if (event.key === "Home") read({ row: from.row, column: 0 });
    else if (event.key === "End") read({ row: from.row, column: columns - 1 });
    else if (event.key === "Escape") read(null);
    else if (event.key in STEPS) {
      const [down, across] = patch ? STEPS[event.key] : [0, 0];
      read({ row: clamp(from.row + down, rows), column: clamp(from.column + across, columns) });
    } else return;
    event.preventDefault();
  });
  new ResizeObserver(draw).observe(stage);
  matchMedia("print").addEventListener("change", draw);

  return {
    show(answer, index, settings) {
      if (shown?.answer !== answer) patch = null;
      shown = { answer, index, settings };
      canvas.hidden = readout.hidden = legend.hidden = false;
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "application");
      canvas.setAttribute("aria-roledescription", "map of similarity");
      canvas.setAttribute("aria-label", `Where “${answer.phrases[index].phrase}” is found. Arrow keys move from patch to patch.`);
      canvas.setAttribute("aria-describedby", "map-summary");
      // A picture that the browser could not show still has its proportions.
      setProportions(stage, answer.width, answer.height);
      const decimals = decimalsFor(settings.range);
      byId("legend-low").textContent = inNumbers(settings.range[0], decimals);
      byId("legend-high").textContent = inNumbers(settings.range[1], decimals);
      paintLegend(byId("legend-bar"), settings.palette);
      draw();
      say();
      readout.setAttribute("aria-live", "polite");
    },
    clear() {
      shown = patch = null;
      canvas.hidden = readout.hidden = legend.hidden = true;
      readout.removeAttribute("aria-live");
    },
  };
}
