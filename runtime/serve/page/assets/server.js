// Requests to the server, and its errors in words.

import { askForKey, bearer } from "./api_key.js";

/** What a person is told when the server did not give what was asked for. */
export class ServerError extends Error {
  constructor(message, details = []) {
    super(message);
    this.details = details;
  }
}

/** GET something as JSON. */
export async function getJson(path, signal) {
  return readJson(await request(path, { signal }));
}

/** GET something as a Blob. */
export async function getBlob(path, signal) {
  return (await request(path, { signal })).blob();
}

/** POST JSON, read JSON. */
export async function postJson(path, content, signal) {
  const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content), signal };
  return readJson(await request(path, init));
}

/**
 * POST a radiograph with fields beside it, as multipart/form-data: in base64 a film takes a third more, and longer.
 *
 * @param image Blob of its type
 * @param fields by name; lists are repeated, objects are sent as JSON, null is left out
 * @returns {Promise<Response>} see `readJson`
 */
export async function postImage(path, image, fields, { signal, accept = "application/json" } = {}) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value === null || value === undefined) continue;
    for (const each of Array.isArray(value) ? value : [value]) {
      form.append(name, typeof each === "object" ? JSON.stringify(each) : String(each));
    }
  }
  form.append("image", image, "image"); // the file's own name may name a patient
  return request(path, { method: "POST", body: form, headers: { Accept: accept }, signal });
}

/** The JSON of a response. */
export async function readJson(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server’s answer could not be read. Try again.");
  }
}

async function request(path, init) {
  for (;;) {
    const key = bearer();
    const headers = key ? { ...init.headers, Authorization: `Bearer ${key}` } : init.headers;
    let response;
    try {
      response = await fetch(path, { ...init, headers, credentials: "omit", cache: "no-store", redirect: "error" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError("The server cannot be reached. Check that it is running, then try again.");
    }
    if (response.ok) return response;
    if (response.status !== 401) throw await errorOf(response);
    if (!(await askForKey(key, init.signal))) throw new ServerError("This server asks for an API key.");
  }
}

async function errorOf(response) {
  let content = null;
  try {
    content = await response.json();
  } catch {
    // A proxy's page, or nothing: the status has to do.
  }
  const { error, message: plain } = content ?? {};
  const told = [error?.message, error, plain].find((each) => typeof each === "string" && each);
  const details = (Array.isArray(content?.faults) ? content.faults : [])
    .filter((fault) => typeof fault?.reason === "string")
    .map((fault) => (Number.isInteger(fault.index) ? `Item ${fault.index + 1}: ${fault.reason}` : fault.reason));
  const wait = retryAfter(response.headers.get("Retry-After"));
  if (response.status === 429) {
    details.unshift(wait === null ? "Try again in a moment." : `Try again ${inWords(wait)}.`);
    return new ServerError(told ?? "The server is busy.", details);
  }
  if (wait !== null) details.push(`Try again ${inWords(wait)}.`);
  if (response.status >= 500) {
    const id = response.headers.get("X-Request-Id");
    if (id) details.push(`Request id: ${id}`);
    return new ServerError(`The server could not answer: ${told ?? `status ${response.status}`}`, details);
  }
  return new ServerError(told ?? `The server refused this with status ${response.status}.`, details);
}

/** Seconds to wait by Retry-After, which is a number of them or a date; null where it says neither. */
function retryAfter(value) {
  if (value === null || value.trim() === "") return null;
  const seconds = /^\d+(\.\d+)?$/.test(value.trim()) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : null;
}

function inWords(seconds) {
  const at = new Date(Date.now() + seconds * 1000).toLocaleTimeString([], { hour12: false });
  return `in ${seconds} second${seconds === 1 ? "" : "s"}, at ${at}`;
}
