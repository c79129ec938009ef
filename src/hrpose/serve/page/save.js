// Saving results as files.

import { render } from "./draw.js";

/** The answers as JSON: that of one item alone, or those of several by their names. */
export function saveJson(items, threshold) {
  const results = items.filter((item) => item.answer).map((item) => result(item, threshold));
  if (!results.length) return;
  const [name, content] = items.length === 1
    ? [items[0].name, results[0]]
    : ["images", { images: results }];
  save(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }), `${name}.poses.json`);
}

function result({ name, answer }, threshold) {
  const persons = answer.persons.map(({ heatmaps, keypoints, ...person }) => ({
    ...person,
    keypoints: keypoints.map((point) => ({ ...point, present: point.score >= threshold })),
  }));
  return { image: name, ...answer, threshold, persons };
}

/** The image in its own size, with everything drawn on it. */
export async function savePng(name, view) {
  const { width, height } = view.image;
  const large = new OffscreenCanvas(width, height);
  render(large.getContext("2d"), view, 1);
  save(await large.convertToBlob({ type: "image/png" }), `${name}.poses.png`);
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name.replaceAll(/[/\\:]/g, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
