// Words for the gaps of a text.

import { barCell, byId, counted, element } from "../dom.js";
import { decimalsFor, inNumbers } from "../drawing/values.js";
import { postJson } from "../server.js";
import { formTask, InputProblem } from "../task.js";

export function startMaskedWords({ model, modelField }) {
  const section = byId("masked-words");
  const result = section.querySelector(".result");
  const text = byId("masked-text");
  const task = formTask(section.querySelector("form"), async (signal) => {
    const mask = model().maskToken;
    if (!text.value.includes(mask)) throw new InputProblem(`The text has no gap: put ${mask} where a word is missing.`, text);
    const count = byId("top-k");
    if (!count.checkValidity() || !Number.isInteger(count.valueAsNumber)) throw new InputProblem("A whole number from 1 to 100 is expected.", count);
    const targets = byId("targets").value.split(",").map((word) => word.trim()).filter(Boolean);
    const parameters = { top_k: count.valueAsNumber, ...(targets.length ? { targets } : {}) };
    const told = await postJson("/fill-mask", { inputs: text.value.trim(), parameters, ...modelField() }, signal);
    const gaps = Array.isArray(told[0]) ? told : [told];
    result.hidden = false;
    result.replaceChildren(...gaps.map((words, index) => tableOfWords(words, gaps.length > 1 ? `Gap ${index + 1} of ${gaps.length}` : "Words for the gap")));
    const best = gaps.map(([first]) => first.token_str.trim()).join(", ");
    return `${counted(gaps.length, "gap")} filled. Most probable: ${best}.`;
  });
  byId("insert-mask").addEventListener("click", () => {
    text.setRangeText(model().maskToken, text.selectionStart, text.selectionEnd, "end");
    text.focus();
  });

  return {
    offer(offered) {
      task.stop();
      result.hidden = true;
      section.hidden = !offered.can.mask;
      for (const place of section.querySelectorAll(".mask-token")) place.textContent = offered.maskToken;
      if (!text.value.includes(offered.maskToken)) text.value = `There is a small ${offered.maskToken} effusion.`;
    },
  };
}

function tableOfWords(words, title) {
  const decimals = Math.max(3, Math.min(5, decimalsFor([0, Math.max(...words.map(({ score }) => score))])));
  return element(
    "table", { class: "bars words" },
    element("caption", {}, title),
    element("thead", { class: "unseen" }, element("tr", {}, ...["Word", "Probability", "Text"].map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...words.map(({ token_str, score, sequence }) =>
      element(
        "tr", {},
        element("th", { scope: "row" }, token_str.trim()),
        barCell(score, inNumbers(score, decimals)),
        element("td", { class: "sequence" }, sequence),
      ),
    )),
  );
}
