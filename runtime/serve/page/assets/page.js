// Asks the server what it offers, and starts the tools for it.

import { startAppearance } from "./appearance.js";
import { byId, element, fillSelect } from "./dom.js";
import { startLabels } from "./tools/labels.js";
import { startMaskedWords } from "./tools/masked_words.js";
import { offerOf } from "./offer.js";
import { startPhrases } from "./tools/phrases.js";
import { createRadiograph } from "./radiograph.js";
import { startSearch } from "./tools/search.js";
import { getJson } from "./server.js";
import { showError } from "./task.js";
import { startTexts } from "./tools/texts.js";

async function readOffer() {
  const problem = byId("offer-error");
  const main = byId("main");
  for (;;) {
    try {
      return offerOf(await getJson("/info"));
    } catch (error) {
      byId("offer").textContent = "The server’s models are not known.";
      main.setAttribute("aria-busy", "false"); // or the error would not be read out
      showError(problem, error);
      const again = element("button", { type: "button" }, "Try again");
      problem.append(again);
      await new Promise((resolve) => again.addEventListener("click", resolve, { once: true }));
      showError(problem, null);
      main.setAttribute("aria-busy", "true");
      byId("offer").textContent = "Asking the server what it offers …";
    }
  }
}

async function start() {
  startAppearance();
  const { models, indexes, limits } = await readOffer();
  const choice = byId("model");
  const model = () => models[Math.max(0, choice.selectedIndex)];
  // Said only where there is a choice: most servers have one model.
  const modelField = () => (models.length > 1 ? { model: model().name } : {});
  const radiograph = createRadiograph(modelField, limits.image_bytes);
  const context = { model, modelField, radiograph, indexes: () => indexes };
  const tools = [startPhrases, startLabels, startMaskedWords, startSearch, startTexts].map((startTool) => startTool(context));

  const offer = () => {
    const offered = model();
    byId("offer").textContent = [offered.name, offered.described].filter(Boolean).join(" · ");
    byId("random-weights").hidden = !offered.random;
    tools.forEach((tool) => tool.offer(offered));
    const films = indexes.some(({ queries }) => queries.includes("image"));
    byId("desk").hidden = !(offered.can.image && (offered.can.joint || films));
    listTools();
  };
  fillSelect(choice, models.map(({ name }, at) => [String(at), name]));
  byId("model-choice").hidden = models.length < 2;
  choice.addEventListener("change", () => {
    offer();
    radiograph.again();
  });
  offer();
  byId("main").setAttribute("aria-busy", "false");
}

function listTools() {
  const shown = [...document.querySelectorAll(".tool")].filter((tool) => !tool.closest("[hidden]"));
  const navigation = document.querySelector("nav");
  byId("nothing").hidden = shown.length > 0;
  navigation.hidden = shown.length < 2;
  navigation.querySelector("ul").replaceChildren(
    ...shown.map((tool) => element("li", {}, element("a", { href: `#${tool.id}` }, tool.dataset.name))),
  );
}

start();
