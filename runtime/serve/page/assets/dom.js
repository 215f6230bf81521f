// Elements of the page. Data becomes text nodes and properties, never HTML.

/** The element of that id; a missing one is a fault of the page. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return found;
}

/** A new element. Attributes as in HTML; children are elements or text. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Options for a select; each is [value, text] or both at once. The value chosen before stays if it is there. */
export function fillSelect(select, options) {
  const before = select.options.length ? select.value : null;
  select.replaceChildren(
    ...options.map((option) => {
      const [value, text] = Array.isArray(option) ? option : [option, option];
      return element("option", { value }, text);
    }),
  );
  if ([...select.options].some((option) => option.value === before)) select.value = before;
}

/** The lines of a text area that are not blank. */
export function linesOf(textarea) {
  return textarea.value
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter(Boolean);
}

/** A cell of a table with a share in [0, 1] as a bar, hidden from screen readers, and as the number that they read. */
export function barCell(share, number) {
  const filled = element("i");
  filled.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  const bar = element("span", { class: "bar", "aria-hidden": "true" }, filled);
  return element("td", {}, element("div", { class: "measure" }, bar, element("b", {}, number)));
}

/** Offer something for download. Its name never comes from the file that was opened, which may name a patient. */
export function saveAs(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A number of a plural noun: "1 phrase", "2 phrases". */
export function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
