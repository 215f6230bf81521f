// How similar texts are to each other.

import { byId, counted, element, linesOf } from "../dom.js";
import { colourAt, inkOn, shareOf } from "../drawing/colours.js";
import { inNumbers } from "../drawing/values.js";
import { postJson } from "../server.js";
import { formTask, InputProblem } from "../task.js";

const MOST = 40; // a matrix of more is not read

export function startTexts({ modelField }) {
  const section = byId("texts");
  const result = section.querySelector(".result");
  const task = formTask(section.querySelector("form"), async (signal) => {
    const field = byId("texts-given");
    const texts = linesOf(field);
    if (texts.length < 2) throw new InputProblem("Type two texts or more, one on each line.", field);
    if (texts.length > MOST) throw new InputProblem(`At most ${MOST} texts are compared here; these are ${texts.length}.`, field);
    const { embeddings } = await postJson("/embed/text", { texts, normalize: true, ...modelField() }, signal);
    const cosines = embeddings.map((one) => embeddings.map((other) => one.reduce((sum, value, at) => sum + value * other[at], 0)));
    result.hidden = false;
    result.replaceChildren(matrixOf(texts, cosines));
    const pairs = cosines.flatMap((row, one) => row.slice(0, one).map((value, other) => ({ value, one: other, other: one })));
    const best = pairs.reduce((most, pair) => (pair.value > most.value ? pair : most));
    return `${counted(texts.length, "text")} compared. Most similar: ${best.one + 1} and ${best.other + 1}, ${inNumbers(best.value)}.`;
  });

  return {
    offer(offered) {
      task.stop();
      result.hidden = true;
      section.hidden = !offered.can.text;
    },
  };
}

function matrixOf(texts, cosines) {
  const others = cosines.flatMap((row, one) => row.filter((_, other) => other !== one));
  const range = [Math.min(...others), 1];
  const numbers = texts.map((text, at) => element("th", { scope: "col" }, element("span", { "aria-hidden": "true" }, String(at + 1)), element("span", { class: "unseen" }, text)));
  const rows = cosines.map((row, at) =>
    element(
      "tr", {},
      element("th", { scope: "row" }, element("b", {}, String(at + 1)), " ", texts[at]),
      ...row.map((value) => {
        const cell = element("td", {}, inNumbers(value, 2));
        const colour = colourAt("viridis", shareOf(value, range));
        cell.style.backgroundColor = `rgb(${colour.map(Math.round).join(" ")})`;
        cell.style.color = inkOn(colour);
        return cell;
      }),
    ),
  );
  return element(
    "div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Similarities of the texts" },
    element(
      "table", { class: "matrix" },
      element("caption", {}, "Cosine similarity of each text with each other"),
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Text"), ...numbers)),
      element("tbody", {}, ...rows),
    ),
  );
}
