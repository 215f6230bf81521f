// The radiograph that the tools ask about: dropped, chosen or pasted; kept in this page's memory.

import { byId } from "./dom.js";
import { setProportions } from "./drawing/map_view.js";
import { withoutExif } from "./drawing/orientation.js";
import { postImage } from "./server.js";
import { InputProblem, showError } from "./task.js";

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const JPEG = [0xff, 0xd8, 0xff];
const DEPTH_AT = 24; // of a PNG's IHDR

/**
 * The place for a radiograph.
 *
 * @param modelField () → {model} or {}: what requests say of the model
 */
export function createRadiograph(modelField) {
  const [section, figure, picture, file, status, problem] = [
    "radiograph", "figure", "picture", "file", "radiograph-status", "radiograph-error",
  ].map(byId);
  const listeners = [];
  let current = null; // {content: Blob as it is sent, shown: Blob as the browser shows it or null}
  let asking = null;

  const forget = () => {
    asking?.abort();
    asking = current = null;
    if (picture.src) URL.revokeObjectURL(picture.src);
    picture.removeAttribute("src");
    picture.hidden = figure.hidden = true;
    file.value = "";
    status.textContent = "";
    showError(problem, null);
    listeners.forEach((listener) => listener());
  };

  const show = (content) => {
    current.shown = content;
    if (picture.src) URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(content);
    picture.alt = "The radiograph that was opened";
    picture.hidden = figure.hidden = false;
  };

  /** The server's 8-bit picture of what browsers cannot show: DICOM, and PNG of 16 bit, whose contrast is not theirs. */
  const showDecoded = async (mine) => {
    asking = new AbortController();
    status.textContent = "The server decodes the picture …";
    try {
      const response = await postImage("/picture", mine.content, modelField(), { signal: asking.signal, accept: "image/png" });
      const decoded = await response.blob();
      if (current !== mine) return;
      show(decoded);
      status.textContent = "Opened.";
    } catch (error) {
      if (current !== mine || error.name === "AbortError") return;
      status.textContent = "";
      if (!mine.shown) showError(problem, error);
    }
  };

  const open = async (given) => {
    forget();
    const mine = { content: null, shown: null };
    current = mine;
    const start = new Uint8Array(await given.slice(0, DEPTH_AT + 1).arrayBuffer());
    if (current !== mine) return; // another one came meanwhile
    const starts = (signature) => signature.every((byte, index) => start[index] === byte);
    const type = starts(PNG) ? "image/png" : starts(JPEG) ? "image/jpeg" : "application/dicom";
    const refused = given.size === 0 ? "This file is empty." : refusal(given, type);
    if (refused) {
      forget();
      showError(problem, new InputProblem(`${refused} A PNG, JPEG or DICOM file is expected.`));
      return;
    }
    mine.content = new Blob([given], { type });
    byId("file-name").textContent = given.name ?? "";
    figure.hidden = false;
    const deep = type === "image/png" && start[DEPTH_AT] > 8;
    if (type !== "application/dicom") {
      const stored = await withoutExif(mine.content);
      if (current !== mine) return;
      show(stored);
    }
    if (type === "application/dicom" || deep) await showDecoded(mine);
    else status.textContent = "Opened.";
  };

  file.addEventListener("change", () => file.files.length && open(file.files[0]));
  byId("remove").addEventListener("click", () => {
    forget();
    file.focus();
  });
  picture.addEventListener("load", () => setProportions(byId("stage"), picture.naturalWidth, picture.naturalHeight));
  picture.addEventListener("error", () => {
    if (!picture.src) return;
    picture.hidden = true;
    showError(problem, new InputProblem("The browser cannot show this picture; the server may still read it."));
  });
  const filesOf = (transfer) => (section.closest("[hidden]") ? [] : [...(transfer?.files ?? [])]);
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    section.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) section.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    section.classList.remove("dropping");
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // or the browser would leave the page for the file
    const [first] = filesOf(event.dataTransfer);
    if (first) open(first);
  });
  document.addEventListener("paste", (event) => {
    const [first] = filesOf(event.clipboardData);
    if (!first) return; // text goes where the cursor is
    event.preventDefault();
    open(first);
  });

  return {
    /** Call when there is another radiograph, or none any more. */
    onChange: (listener) => listeners.push(listener),
    /** The Blob to send. Throws InputProblem where there is none. */
    required() {
      if (!current?.content) throw new InputProblem("Open a radiograph first.", file);
      return current.content;
    },
    /** The <img> to draw; null where the browser cannot show it. */
    picture: () => (picture.hidden ? null : picture),
    /** Decode again what another model may see otherwise. */
    again: () => current?.content?.type === "application/dicom" && showDecoded(current),
  };
}

/** Why a file is not even sent; "" where the server should try. DICOM files need not have a name or a signature. */
function refusal({ type, name = "" }, found) {
  if (found !== "application/dicom" || type === "application/dicom" || /\.(dcm|dicom|ima)$/i.test(name)) return "";
  return /^(image|text|video|audio)\/|pdf|zip|json/.test(type) ? "This file is of another kind." : "";
}
