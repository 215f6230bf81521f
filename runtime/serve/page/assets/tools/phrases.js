// Where phrases are found in the radiograph, and how similar both are.

import { byId, counted, element, fillSelect, linesOf, saveAs } from "../dom.js";
import { PALETTES, rangeOf } from "../drawing/colours.js";
import { createMapView } from "../drawing/map_view.js";
import { pictureFile } from "../drawing/picture_file.js";
import { csvOf, decimalsFor, inNumbers, placeInWords, strongest, tableOf } from "../drawing/values.js";
import { postImage, postJson, readJson } from "../server.js";
import { formTask, InputProblem, showError } from "../task.js";

const RESEARCH = "Research use only, not for clinical use.";
const RANDOM = "Random weights: this model was never trained. Its results mean nothing.";

/** @param context {{model: () => Model, modelField: () => object, radiograph}} what all tools share */
export function startPhrases({ model, modelField, radiograph }) {
  const section = byId("phrases");
  const result = section.querySelector(".result");
  const alert = section.querySelector("[role=alert]");
  const view = createMapView();
  let answer = null;
  let shown = 0;

  const settings = () => ({
    heat: byId("heat").checked,
    isolines: byId("isolines").checked,
    smooth: byId("smooth").checked,
    opacity: byId("opacity").valueAsNumber / 100,
    palette: byId("palette").value,
    range: rangeOf(answer.phrases.map(({ map }) => map), shown, byId("scale").value, byId("palette").value),
  });
  const draw = () => {
    if (answer?.grid) view.show(answer, shown, settings());
  };
  const choose = (index) => {
    shown = index;
    const { phrase, map } = answer.phrases[index];
    const decimals = decimalsFor(rangeOf([map], 0, "own", "viridis"));
    const best = strongest(answer, map);
    const least = Math.min(...map.flat());
    byId("map-summary").textContent = best
      ? `“${phrase}” is strongest in row ${best.row + 1}, column ${best.column + 1} of ${answer.grid.join(" × ")} patches ` +
        `(${placeInWords(best)}), with ${inNumbers(best.value, decimals)}. The lowest value is ${inNumbers(least, decimals)}.`
      : "The model sees nothing of this picture.";
    const caption = `Similarity of each patch with “${phrase}”; rows from the top of the picture, columns from its left`;
    byId("values").querySelector(".scroll").replaceChildren(tableOf(map, decimals, caption));
    draw();
  };
  const clear = () => {
    task.stop();
    answer = null;
    result.hidden = true;
    view.clear();
  };

  const ask = async (image, phrases, signal) => {
    if (model().can.patches) {
      const fields = { phrases, format: "json", ...modelField() };
      const told = await readJson(await postImage("/ground", image, fields, { signal }));
      byId("scores").querySelector("div").replaceChildren(
        ...told.phrases.map(({ phrase, score }, index) => {
          const radio = element("input", { type: "radio", name: "shown", checked: index === 0 });
          radio.addEventListener("change", () => choose(index));
          return element("label", { class: "score" }, radio, element("span", {}, phrase), element("b", {}, inNumbers(score)));
        }),
      );
      return told;
    }
    // Unit vectors of one space: their dot product is the similarity, and the image network runs once for all phrases.
    const [images, texts] = await Promise.all([
      postImage("/embed/image", image, modelField(), { signal }).then(readJson),
      postJson("/embed/text", { texts: phrases, normalize: true, ...modelField() }, signal),
    ]);
    const scores = texts.embeddings.map((text) => text.reduce((sum, value, at) => sum + value * images.embeddings[0][at], 0));
    byId("scores").querySelector("div").replaceChildren(
      ...phrases.map((phrase, index) => element("p", { class: "score" }, element("span", {}, phrase), element("b", {}, inNumbers(scores[index])))),
    );
    return { phrases: phrases.map((phrase, index) => ({ phrase, score: scores[index] })) };
  };

  const task = formTask(section.querySelector("form"), async (signal) => {
    const image = radiograph.required();
    const field = byId("phrases-given");
    const phrases = linesOf(field);
    if (!phrases.length) throw new InputProblem("Type a phrase.", field);
    const told = await ask(image, phrases, signal);
    answer = told;
    result.hidden = false;
    byId("map-part").hidden = !told.grid;
    if (told.grid) {
      choose(0);
      if (matchMedia("(max-width: 60rem)").matches) byId("stage").scrollIntoView({ block: "nearest" }); // it is above the form
      return `${counted(phrases.length, "phrase")} compared with the radiograph.`;
    }
    view.clear();
    return `${counted(phrases.length, "phrase")} compared with the radiograph.`;
  });

  fillSelect(byId("palette"), Object.entries(PALETTES).map(([name, { title }]) => [name, title]));
  byId("drawn").addEventListener("input", draw);
  byId("save-picture").addEventListener("click", async () => {
    const notes = [model().name + (model().described ? ` · ${model().described}` : ""), RESEARCH, ...(model().random ? [RANDOM] : [])];
    try {
      saveAs("phrase-map.png", await pictureFile(radiograph.picture(), answer, shown, settings(), notes));
    } catch (error) {
      console.error(error);
      showError(alert, new InputProblem("The browser could not draw the picture: it may be too large."));
    }
  });
  byId("save-values").addEventListener("click", () => {
    saveAs("phrase-map.csv", new Blob([csvOf(answer)], { type: "text/csv" }));
  });
  radiograph.onChange(clear);

  return {
    offer(offered) {
      clear();
      section.hidden = !(offered.can.joint && offered.can.image && offered.can.text);
      for (const part of section.querySelectorAll("[data-with]")) part.hidden = !offered.can.patches;
      for (const part of section.querySelectorAll("[data-without]")) part.hidden = offered.can.patches;
    },
  };
}
