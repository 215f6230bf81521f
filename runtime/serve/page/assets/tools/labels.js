// How probable labels are for the radiograph, by published prompts or one's own.

import { barCell, byId, counted, element, fillSelect, linesOf } from "../dom.js";
import { inNumbers } from "../drawing/values.js";
import { postImage, readJson } from "../server.js";
import { formTask, InputProblem } from "../task.js";

// By the bundle's score: what a line of one's own is, and what a probability says.
const SCORES = {
  pairs: {
    templates: "“No …” before the label",
    hint: "“Edema” is compared with “No edema”. Own wording: Edema | Signs of edema | No signs of edema",
    meaning: "Over 0.5, what affirms the label is more similar than what denies it. Not calibrated.",
  },
  softmax: {
    templates: "The model’s",
    hint: "At least two: labels are compared with each other. Own wording: Edema | Pulmonary edema",
    meaning: "The labels are compared with each other; together they are 1. Not calibrated.",
  },
  sigmoid: {
    templates: "The model’s",
    hint: "Each is judged by itself. Own wording: Edema | Pulmonary edema",
    meaning: "Each label is judged by itself. Not calibrated.",
  },
};

/** "No edema" of "Edema", "No COPD" of "COPD". */
function denied(label) {
  return `No ${/^\p{Lu}\p{Ll}/u.test(label) ? label[0].toLowerCase() + label.slice(1) : label}`;
}

/**
 * What a request says of one's own labels.
 *
 * @param lines "label", or "label | prompt", of pairs "label | what affirms it | what denies it"
 * @param score of the bundle
 * @param templates name of those that make prompts of labels alone; "" for none
 * @returns {{labels: string[], templates: ?string} | {prompts: object}}
 */
export function ownPrompts(lines, score, templates = "") {
  if (templates) return { labels: lines, templates };
  const cells = lines.map((line) => line.split("|").map((cell) => cell.trim()));
  const faulty = cells.findIndex((line) => !line.every(Boolean) || line.length > (score === "pairs" ? 3 : 2) || (score === "pairs" && line.length === 2));
  if (faulty >= 0) {
    const expected = score === "pairs" ? "a label alone, or: label | what affirms it | what denies it" : "a label alone, or: label | prompt";
    throw new InputProblem(`Line ${faulty + 1} cannot be read. Expected is ${expected}.`);
  }
  const names = cells.map(([label]) => label.toLowerCase());
  const repeated = names.findIndex((name, line) => names.indexOf(name) < line);
  if (repeated >= 0) throw new InputProblem(`Line ${repeated + 1} repeats the label of line ${names.indexOf(names[repeated]) + 1}.`);
  if (score === "pairs") {
    const sides = ([label, affirms = label, denies = denied(label)]) => [label, [[affirms], [denies]]];
    return { prompts: Object.fromEntries(cells.map(sides)) };
  }
  if (cells.every((line) => line.length === 1)) return { labels: cells.map(([label]) => label) };
  return { prompts: Object.fromEntries(cells.map(([label, prompt = label]) => [label, [prompt]])) };
}

export function startLabels({ model, modelField, radiograph }) {
  const section = byId("labels");
  const result = section.querySelector(".result");
  const set = byId("prompt-set");
  const scoring = () => SCORES[model().score] ?? SCORES.pairs;
  const task = formTask(section.querySelector("form"), async (signal) => {
    const image = radiograph.required();
    const field = byId("labels-given");
    const asked = set.value ? { prompts: set.value } : given(field);
    const told = await readJson(await postImage("/classify", image, { ...asked, ...modelField() }, { signal }));
    const labels = Object.entries(told.labels ?? told.results[0]).sort(([, one], [, other]) => other - one);
    result.hidden = false;
    result.replaceChildren(
      element(
        "table", { class: "bars" },
        element("caption", {}, scoring().meaning),
        element("thead", { class: "unseen" }, element("tr", {}, ...["Label", "Probability"].map((head) => element("th", { scope: "col" }, head)))),
        element("tbody", {}, ...labels.map(([label, probability]) =>
          element("tr", {}, element("th", { scope: "row" }, label), barCell(probability, inNumbers(probability))),
        )),
      ),
    );
    const [[first, highest]] = labels;
    return `${counted(labels.length, "label")} classified. Highest: ${first}, ${inNumbers(highest)}.`;
  });
  const given = (field) => {
    const lines = linesOf(field);
    if (!lines.length) throw new InputProblem("Type a label.", field);
    try {
      return ownPrompts(lines, model().score ?? "pairs", byId("templates").value);
    } catch (error) {
      error.field = field;
      throw error;
    }
  };
  const clear = () => {
    task.stop();
    result.hidden = true;
  };
  const toggle = () => {
    byId("own-labels").hidden = set.value !== "";
    byId("templates-choice").hidden = set.value !== "" || !model().templates.length;
  };
  set.addEventListener("change", toggle);
  radiograph.onChange(clear);

  return {
    offer(offered) {
      clear();
      section.hidden = !(offered.can.joint && offered.can.image && offered.can.text);
      fillSelect(set, [...offered.promptSets, ["", "Own labels"]]);
      fillSelect(byId("templates"), [["", scoring().templates], ...offered.templates]);
      byId("labels-hint").textContent = scoring().hint;
      toggle();
    },
  };
}
