// One form that asks the server: busy, done, failed, cancelled. Only its latest request counts.

import { ServerError } from "./server.js";

/**
 * Let a form ask the server.
 *
 * @param form has a submit button, a [data-cancel] button, a [role=status] and a [role=alert]
 * @param run async (signal) → what the status says when it is done; throws ServerError or InputProblem
 * @returns {{stop: function}} `stop` drops what runs and what was said
 */
export function formTask(form, run) {
  const section = form.closest("section");
  const cancel = form.querySelector("[data-cancel]");
  const status = form.querySelector("[role=status]");
  const alert = form.querySelector("[role=alert]");
  let running = null;

  const busy = (is) => {
    section.setAttribute("aria-busy", String(is));
    if (!is && document.activeElement === cancel) form.querySelector("[type=submit]").focus();
    cancel.hidden = !is;
  };
  const stop = () => {
    running?.abort();
    running = null;
    busy(false);
    status.textContent = "";
    showError(alert, null);
  };
  cancel.addEventListener("click", () => {
    stop();
    status.textContent = "Cancelled.";
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    stop();
    const mine = new AbortController();
    running = mine;
    busy(true);
    status.textContent = "Waiting for the server …";
    try {
      const said = await run(mine.signal);
      if (running === mine) status.textContent = said;
    } catch (error) {
      if (running !== mine) return;
      status.textContent = "";
      if (error.name !== "AbortError") showError(alert, error);
    } finally {
      if (running === mine) {
        running = null;
        busy(false);
      }
    }
  });
  return { stop };
}

/** Something that the person has to mend before the server is asked; `field` is where. */
export class InputProblem extends Error {
  constructor(message, field = null) {
    super(message);
    this.field = field;
  }
}

/** Say an error in words in its place; null takes it away. */
export function showError(place, error) {
  place.replaceChildren();
  place.hidden = error === null;
  if (error === null) return;
  const known = error instanceof ServerError || error instanceof InputProblem;
  if (!known) console.error(error);
  const lines = [known ? error.message : "The page failed to show this answer.", ...(error.details ?? [])];
  for (const line of lines) {
    const paragraph = document.createElement("p");
    paragraph.textContent = line;
    place.append(paragraph);
  }
  error.field?.focus();
}
