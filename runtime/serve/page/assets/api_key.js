// The API key: asked for once the server answers 401, kept in this variable and nowhere else.

import { byId } from "./dom.js";

let key = null;
let asking = null;

/** The key that requests carry; null before one was given. */
export function bearer() {
  return key;
}

/**
 * Ask for a key.
 *
 * @param refused the key that the server did not take; null where none was sent
 * @param signal ends the question with false
 * @returns whether there is now another key to try
 */
export async function askForKey(refused, signal) {
  if (key !== refused) return true; // given meanwhile, for another request
  asking ??= ask(refused !== null).finally(() => {
    asking = null;
  });
  const aborted = new Promise((_, reject) => {
    const abort = () => reject(new DOMException("cancelled", "AbortError"));
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
  });
  return Promise.race([asking, aborted]);
}

function ask(refused) {
  const section = byId("api-key");
  const form = section.querySelector("form");
  const field = byId("api-key-value");
  const cancel = form.querySelector("[data-cancel]");
  const before = document.activeElement;
  byId("api-key-reason").textContent = refused
    ? "The server did not accept this key."
    : "This server answers only requests that carry its API key.";
  field.setAttribute("aria-describedby", "api-key-reason");
  field.setAttribute("aria-invalid", String(refused));
  field.value = "";
  section.hidden = false;
  field.focus();
  return new Promise((resolve) => {
    const end = (given) => {
      form.removeEventListener("submit", submit);
      cancel.removeEventListener("click", give_up);
      section.hidden = true;
      field.value = "";
      if (before instanceof HTMLElement && before !== document.body) before.focus();
      else byId("main").focus();
      resolve(given);
    };
    const submit = (event) => {
      event.preventDefault();
      // What cannot be in a header cannot be a key either, and would fail as a request that never left.
      const given = field.value.trim();
      if (!/^[\x21-\x7e]+$/.test(given)) {
        byId("api-key-reason").textContent = "A key has letters, digits and signs only, without spaces.";
        field.setAttribute("aria-invalid", "true");
        return;
      }
      key = given;
      end(true);
    };
    const give_up = () => end(false);
    form.addEventListener("submit", submit);
    cancel.addEventListener("click", give_up);
  });
}
