// What an index has that resembles a text or the radiograph.

import { byId, counted, element, fillSelect } from "../dom.js";
import { inNumbers } from "../drawing/values.js";
import { getBlob, postImage, postJson, readJson } from "../server.js";
import { formTask, InputProblem } from "../task.js";

const AT_A_TIME = 4; // thumbnails that are fetched

export function startSearch({ model, modelField, radiograph, indexes }) {
  const section = byId("search");
  const result = section.querySelector(".result");
  const form = section.querySelector("form");
  let thumbnails = new AbortController();
  let urls = [];
  const kind = () => form.elements.query.value;
  const chosen = () => indexes().find(({ name }) => name === byId("index").value);
  const clear = () => {
    thumbnails.abort();
    urls.forEach(URL.revokeObjectURL);
    urls = [];
    result.hidden = true;
    result.replaceChildren();
  };

  const task = formTask(form, async (signal) => {
    const count = byId("hits");
    if (!count.checkValidity() || !Number.isInteger(count.valueAsNumber)) throw new InputProblem("A whole number from 1 to 100 is expected.", count);
    const fields = { index: byId("index").value, top_k: count.valueAsNumber, ...modelField() };
    const query = byId("query-given");
    if (kind() === "text" && !query.value.trim()) throw new InputProblem("Type a text.", query);
    const told =
      kind() === "text"
        ? await postJson("/search", { text: query.value.trim(), ...fields }, signal)
        : await readJson(await postImage("/search", radiograph.required(), fields, { signal }));
    clear();
    thumbnails = new AbortController();
    const pictures = [];
    const list = element("ol", { class: "hits", role: "list" }, ...told.hits.map((hit) => itemOf(hit, pictures)));
    result.hidden = false;
    result.replaceChildren(list);
    fetchAll(pictures, thumbnails.signal, (url) => urls.push(url));
    return told.hits.length ? `${counted(told.hits.length, "hit")}. The first: ${told.hits[0].id}, ${inNumbers(told.hits[0].score)}.` : "No hits.";
  });

  const toggle = () => {
    const offered = chosen();
    const queries = (offered?.queries ?? []).filter((query) => model().can[query]);
    for (const radio of form.elements.query) {
      radio.closest("label").hidden = !queries.includes(radio.value);
      if (radio.checked && !queries.includes(radio.value) && queries.length) form.elements.query.value = queries[0];
    }
    byId("query-kind").hidden = queries.length < 2;
    byId("query-text").hidden = kind() !== "text";
  };
  byId("index").addEventListener("change", toggle);
  byId("query-kind").addEventListener("change", toggle);

  return {
    offer() {
      task.stop();
      clear();
      section.hidden = !indexes().length;
      fillSelect(byId("index"), indexes().map(({ name, described }) => [name, described]));
      byId("index-choice").hidden = indexes().length < 2;
      toggle();
    },
  };
}

function itemOf({ rank, score, id, text, picture }, pictures) {
  const place = element("div", { class: "thumbnail" });
  // A picture is one of this server, never of another host: the request brings the API key.
  const own = typeof picture === "string" && new URL(picture, location.href).origin === location.origin;
  if (own) pictures.push({ place, picture, id });
  return element(
    "li", {},
    own ? place : null,
    element("div", {}, element("span", { class: "rank" }, `${rank}.`), " ", element("b", {}, inNumbers(score)), " ", element("span", { class: "id" }, String(id)), text ? element("p", {}, text) : null),
  );
}

/** Thumbnails are fetched as requests, for an <img> would bring no API key. One that fails is left out. */
async function fetchAll(pictures, signal, made) {
  const waiting = [...pictures];
  const work = async () => {
    for (let next = waiting.shift(); next && !signal.aborted; next = waiting.shift()) {
      try {
        const url = URL.createObjectURL(await getBlob(next.picture, signal));
        made(url);
        next.place.replaceChildren(element("img", { src: url, alt: `Radiograph ${next.id}` }));
      } catch {
        next.place.textContent = signal.aborted ? "" : "No picture";
      }
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, work));
}
