// Light, dark, or as the system has it.

import { byId } from "./dom.js";

const STORED = "appearance";

export function startAppearance() {
  const select = byId("appearance");
  const apply = () => {
    if (select.value) document.documentElement.dataset.appearance = select.value;
    else delete document.documentElement.dataset.appearance;
  };
  try {
    select.value = localStorage.getItem(STORED) ?? "";
  } catch {
    // Storage may be forbidden; the choice then lasts as long as the page.
  }
  if (select.selectedIndex < 0) select.value = "";
  apply();
  select.addEventListener("change", () => {
    apply();
    try {
      localStorage.setItem(STORED, select.value);
    } catch {
      // See above.
    }
  });
}
