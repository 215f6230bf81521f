// What the server offers, by its GET /info.

/**
 * @typedef {object} Model one loaded bundle
 * @property {string} name what requests call it by
 * @property {string} described family, provider and precision in words
 * @property {boolean} random whether its weights are random
 * @property {{text: boolean, image: boolean, joint: boolean, mask: boolean, patches: boolean}} can
 * @property {string} maskToken
 * @property {?string} score "pairs", "softmax" or "sigmoid": how labels are scored
 * @property {string[]} promptSets
 * @property {string[]} templates
 */

/** The models, indexes and bounds of an answer of /info; what it does not say is not offered. */
export function offerOf(info) {
  const listed = Array.isArray(info.models) && info.models.length ? info.models : [info.served_model_name ?? info.model_id ?? ""];
  const models = listed.map((model) => modelOf(typeof model === "object" ? { ...info, ...model } : { ...info, name: model }));
  const indexes = (Array.isArray(info.indexes) ? info.indexes : []).map(indexOf);
  return { models, indexes, limits: { image_bytes: Infinity, ...info.limits } };
}

function modelOf(told) {
  const can = told.capabilities ?? {};
  const precision = Object.entries(told.precision ?? {}).map(([part, value]) => `${part} ${value}`);
  const parts = [told.family === told.name ? "" : told.family, told.provider && `on ${told.provider}`, precision.join(", ")];
  return {
    name: String(told.name ?? ""),
    described: parts.filter(Boolean).join(" · "),
    random: told.random_weights === true,
    can: {
      text: can.text === true,
      image: can.image === true,
      joint: can.joint === true,
      mask: can.mask === true,
      patches: can.patches === true,
    },
    maskToken: told.mask_token ?? "[MASK]",
    score: told.score ?? null,
    promptSets: namesOf(told.prompt_sets),
    templates: namesOf(told.templates),
  };
}

function indexOf(told) {
  const index = typeof told === "object" ? told : { name: told };
  return {
    name: String(index.name),
    described: Number.isInteger(index.rows) ? `${index.name} (${index.rows.toLocaleString("en")} ${index.kind ?? "row"}s)` : String(index.name),
    queries: Array.isArray(index.queries) ? index.queries : ["text", "image"],
  };
}

/** A list of names, of objects with names, or an object whose keys are the names. */
function namesOf(told) {
  if (Array.isArray(told)) return told.map((each) => String(each?.name ?? each));
  return told && typeof told === "object" ? Object.keys(told) : [];
}
