// What the server of `hrpose serve` answers, answered in this browser: the functions are those of its
// module of this name. The networks run in a thread of their own.

import { fetchBytes } from "./files.js";
import { addWords } from "./language.js";
import { installed } from "./offline.js";
import { Refused } from "./refused.js";
import { WORDS_HERE } from "./words-here.js";

addWords(WORDS_HERE);

let worker = null;
let loaded = null; // the promise of the model
let count = 0;
const waiting = new Map(); // {done, fail} by the ids of messages
let progress = () => {};

/** There is no server that could require one. */
export function useToken() {}

/** The model and detector, once they run here; `show(part)` is called while they are loaded. */
export async function fetchModels(show = () => {}) {
  progress = show;
  loaded ??= load();
  try {
    return await loaded;
  } catch (error) {
    loaded = null; // the next image tries again
    throw error;
  } finally {
    show(1);
  }
}

async function load() {
  await installed();
  worker?.terminate();
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.addEventListener("message", ({ data }) => {
    if (data.part !== undefined) {
      progress(data.part);
      return;
    }
    const { done, fail } = waiting.get(data.id) ?? {};
    waiting.delete(data.id);
    if (data.problem) fail?.(new Refused(data.problem.code, data.problem.reason));
    else done?.(data.answer);
  });
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    for (const { fail } of waiting.values()) fail(new Refused("noServer", event.message ?? "worker.js"));
    waiting.clear();
    loaded = null;
  });
  // ?device=wasm and ?device=webgpu choose.
  return await ask({ kind: "load", device: new URLSearchParams(location.search).get("device") });
}

/** The poses in an image; without `boxes` the detector finds the persons. Throws Refused. */
export async function fetchPoses(image, { signal, ...options }) {
  await fetchModels(progress);
  return await ask({ kind: "poses", image, options }, signal);
}

export async function fetchJson(address) {
  return JSON.parse(new TextDecoder().decode(await fetchBytes(address)));
}

export async function fetchFile(address) {
  return new Blob([await fetchBytes(address)], { type: "image/jpeg" });
}

function ask(message, signal) {
  signal?.throwIfAborted();
  count += 1;
  const id = count;
  return new Promise((done, fail) => {
    waiting.set(id, { done, fail });
    signal?.addEventListener("abort", () => {
      worker.postMessage({ abort: id });
      fail(signal.reason);
    }, { once: true });
    worker.postMessage({ id, ...message });
  });
}
