// The thread that runs the networks, so that the page stays responsive. Messages are {id, kind, ...};
// each gets one answer {id, answer} or {id, problem}, and {part} tells how much is loaded.

import { Estimator } from "./estimator.js";
import { fetchBytes, fetchJson } from "./files.js";
import { readImage } from "./pixels.js";
import { Refused } from "./refused.js";
import { chooseDevice, Runtime } from "./runtime.js";

// The heatmaps that Python computed of one crop, and those of this device, differ by no more: a
// keypoint moves by less than a hundredth of a pixel.
const LARGEST_DIFFERENCE = 0.02;

let estimator = null;
let last = Promise.resolve(); // one message after another
const aborted = new Set();

const kinds = {
  async load({ device }) {
    const site = await fetchJson("site.json");
    let chosen = await chooseDevice(site.runtime, device);
    const files = [site.pose, site.detector, site.runtime[chosen]].filter((file) => file);
    const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
    let loaded = 0;
    const came = (count) => {
      loaded += count;
      postMessage({ part: Math.min(loaded / total, 1) });
    };
    const runtime = await Runtime.load(site.runtime, chosen, came);
    const pose = await fetchBytes(site.pose.file, came);
    const detector = site.detector && await fetchBytes(site.detector.file, came);
    const open = async () => {
      estimator = new Estimator(
        site.about.name,
        { network: await runtime.open(pose), metadata: site.pose.metadata },
        site.detector && { network: await runtime.open(detector), metadata: site.detector.metadata },
        site.scores,
      );
      return await difference(site.check);
    };
    let found = await open().catch((error) => {
      if (chosen === "wasm") throw new Refused("noEngine", error.message);
      return Infinity;
    });
    if (chosen === "webgpu" && !(found <= LARGEST_DIFFERENCE)) {
      // Drivers of graphics cards may compute wrong, or not at all.
      chosen = runtime.device = "wasm";
      found = await open();
    }
    if (!(found <= LARGEST_DIFFERENCE)) throw new Refused("noEngine", `heatmaps differ by ${found}`);
    return {
      version: site.version,
      models: [{ ...site.about, engine: runtime.engine }],
      detector: site.detector ? "builtin" : "the full image",
      device: chosen,
      difference: found,
    };
  },

  async poses({ id, image, options }) {
    const between = async () => {
      await new Promise((done) => setTimeout(done)); // lets the message that aborts come in
      if (aborted.has(id)) throw new Refused("aborted");
    };
    await between();
    return await estimator.poses(await readImage(image), options, between);
  },
};

/** The largest difference between the heatmaps here and Python's; the first run is the slow one. */
async function difference({ image, box, every, values }) {
  const pixels = await readImage(new Blob([await fetchBytes(image)]));
  await estimator.detect(pixels);
  const maps = await estimator.heatmaps(pixels, estimator.cropAround(box));
  return Math.max(...values.map((value, index) => Math.abs(value - maps[index * every])));
}

async function answer({ id, kind, ...values }) {
  try {
    postMessage({ id, answer: await kinds[kind]({ id, ...values }) });
  } catch (error) {
    const known = error instanceof Refused;
    postMessage({ id, problem: { code: known ? error.code : "noEngine", reason: error.message } });
  } finally {
    aborted.delete(id);
  }
}

self.addEventListener("message", ({ data }) => {
  if (data.abort) aborted.add(data.abort);
  else last = last.then(() => answer(data));
});
