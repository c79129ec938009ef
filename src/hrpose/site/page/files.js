// The files of this page: fetched with their progress, unpacked where they are gzipped.

import { Refused } from "./refused.js";

const ROOT = new URL("../", import.meta.url);

export const addressOf = (file) => new URL(file, ROOT).href;

/** A JSON file. Throws Refused where it is missing. */
export async function fetchJson(file) {
  return await (await answerFor(file)).json();
}

/** A file's bytes; `came(count)` is called with the number of bytes of each part. Throws Refused. */
export async function fetchBytes(file, came = () => {}) {
  const answer = await answerFor(file);
  const parts = [];
  const reader = answer.body.getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      came(part.value.length);
    }
    // A host that knows of .gz may have had the browser unpack it.
    const blob = new Blob(parts);
    const [one, two] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
    if (one !== 0x1f || two !== 0x8b) return new Uint8Array(await blob.arrayBuffer());
    const unpacked = blob.stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(unpacked).arrayBuffer());
  } catch (error) {
    throw new Refused("noServer", `${file}: ${error.message}`);
  }
}

async function answerFor(file) {
  let answer;
  try {
    answer = await fetch(addressOf(file));
  } catch (error) {
    throw new Refused("noServer", `${file}: ${error.message}`);
  }
  if (!answer.ok) throw new Refused("noServer", `${file}: ${answer.status} ${answer.statusText}`);
  return answer;
}
