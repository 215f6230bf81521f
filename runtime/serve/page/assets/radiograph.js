// The radiograph that the tools ask about: dropped, chosen or pasted; kept in this page's memory.

import { byId } from "./dom.js";
import { setProportions } from "./drawing/map_view.js";
import { withoutExif } from "./drawing/orientation.js";
import { postImage } from "./server.js";
import { InputProblem, showError } from "./task.js";

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const JPEG = [0xff, 0xd8, 0xff];
const DEPTH_AT = 24; // of a PNG's IHDR
const ROOM = 16_384; // of a body, for the fields beside the picture

/**
 * The place for a radiograph.
 *
 * @param modelField () → {model} or {}: what requests say of the model
 * @param mostBytes that the server reads: a larger body would end in a broken connection instead of words
 */
export function createRadiograph(modelField, mostBytes) {
  const [section, figure, picture, file, status, problem] = [
    "radiograph", "figure", "picture", "file", "radiograph-status", "radiograph-error",
  ].map(byId);
  const listeners = [];
  let current = null; // {content: Blob as it is sent, shown: whether there is a picture, decode: whether by the server}
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
    current.shown = true;
    if (picture.src) URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(content);
    picture.alt = "The radiograph that was opened";
    picture.hidden = figure.hidden = false;
  };

  /** The server's 8-bit picture of what browsers cannot show: DICOM, and PNG of 16 bit, whose contrast is not theirs. */
  const showDecoded = async (mine) => {
    asking?.abort();
    asking = new AbortController();
    status.textContent = "The server decodes the picture …";
    try {
      const response = await postImage("/picture", mine.content, modelField(), { signal: asking.signal, accept: "image/png" });
      const decoded = await response.blob();
      if (current !== mine) return;
      show(decoded);
      status.textContent = mine.opened;
    } catch (error) {
      if (current !== mine || error.name === "AbortError") return;
      status.textContent = "";
      if (!mine.shown) showError(problem, error);
    }
  };

  const open = async ([given, ...others]) => {
    forget();
    const opened = others.length ? `Opened the first of ${others.length + 1} files.` : "Opened.";
    const mine = { content: null, shown: false, decode: false, opened };
    current = mine;
    // What cannot be read is a folder, or was removed meanwhile.
    const start = await given.slice(0, DEPTH_AT + 1).arrayBuffer().then((read) => new Uint8Array(read), () => null);
    if (current !== mine) return; // another one came meanwhile
    const starts = (signature) => signature.every((byte, index) => start?.[index] === byte);
    const type = starts(PNG) ? "image/png" : starts(JPEG) ? "image/jpeg" : "application/dicom";
    const refused = start ? refusal(given, type, mostBytes) : "This file cannot be read.";
    if (refused) {
      forget();
      showError(problem, new InputProblem(refused));
      return;
    }
    mine.content = new Blob([given], { type });
    byId("file-name").textContent = given.name ?? "";
    figure.hidden = false;
    mine.decode = type === "application/dicom" || (type === "image/png" && start[DEPTH_AT] > 8);
    if (type !== "application/dicom") {
      const stored = await withoutExif(mine.content);
      if (current !== mine) return;
      show(stored);
    }
    if (mine.decode) await showDecoded(mine);
    else status.textContent = mine.opened;
  };

  file.addEventListener("change", () => file.files.length && open([...file.files]));
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
    const files = filesOf(event.dataTransfer);
    if (files.length) open(files);
  });
  document.addEventListener("paste", (event) => {
    const files = filesOf(event.clipboardData);
    if (!files.length) return; // text goes where the cursor is
    event.preventDefault();
    open(files);
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
    again: () => current?.content && current.decode && showDecoded(current),
  };
}

/** Why a file is not even sent; "" where the server should try. DICOM files need not have a name or a signature. */
function refusal({ size, type, name = "" }, found, mostBytes) {
  const expected = "A PNG, JPEG or DICOM file is expected.";
  if (size === 0) return `This file is empty. ${expected}`;
  if (size + ROOM > mostBytes) return `This file has ${inMegabytes(size)}; the server reads ${inMegabytes(mostBytes)} at most.`;
  if (found !== "application/dicom" || type === "application/dicom" || /\.(dcm|dicom|ima)$/i.test(name)) return "";
  return /^(image|text|video|audio)\/|pdf|zip|json/.test(type) ? `This file is of another kind. ${expected}` : "";
}

function inMegabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 0)} MB`;
}
