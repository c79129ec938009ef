// Requests to the server of this page. The page that `hrpose site` writes has another module in this
// one's place, with the same functions, which answers in the browser.

import { Refused } from "./refused.js";

// Kept for as long as the page is open, and nowhere else.
let token = "";

export function useToken(value) {
  token = value;
}

export async function fetchModels() {
  return await send("/v1/models");
}

/** A JSON file of the server. */
export async function fetchJson(path) {
  return await send(path);
}

/** Any file of the server. */
export async function fetchFile(path) {
  return await send(path, {}, "blob");
}

/** The poses in an image; without `boxes` the server's detector finds the persons. */
export async function fetchPoses(image, { boxes = null, heatmaps = false, flipTest = false, minScore = null, signal }) {
  const form = new FormData();
  form.append("image", image, "image");
  if (boxes) form.append("boxes", JSON.stringify(boxes));
  if (heatmaps) form.append("heatmaps", "true");
  // In boxes that were drawn by hand every pose is wanted.
  if (minScore !== null && !boxes) form.append("min_score", String(minScore));
  if (flipTest) form.append("flip_test", "true");
  const request = { method: "POST", body: form, signal };
  for (let tries = 3; ; tries -= 1) {
    try {
      return await send("/v1/poses", request);
    } catch (error) {
      if (tries <= 1 || error.status !== 503) throw error;
      await new Promise((done) => setTimeout(done, Math.max(1, error.retryAfter) * 1000));
      signal?.throwIfAborted();
    }
  }
}

/** The answer to a request, as JSON or another `kind`. Throws Refused, or where it is aborted. */
export async function send(path, request = {}, kind = "json") {
  const headers = { ...request.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...request, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("noServer");
  }
  if (answer.ok) return await answer[kind]();
  let problem = {};
  try {
    problem = await answer.json();
  } catch { /* a proxy answered, without JSON */ }
  const retryAfter = Number(answer.headers.get("Retry-After")) || 0;
  throw new Refused(problem.error ?? "refused", problem.reason ?? "", {
    cause: problem.cause, status: answer.status, retryAfter, answer: problem,
  });
}
