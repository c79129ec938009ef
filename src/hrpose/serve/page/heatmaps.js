// A person's heatmaps: one gray PNG of all keypoints, which is colored for one or for all of them.

/** Read the heatmaps of every person of an answer. */
export async function readHeatmaps(persons) {
  return await Promise.all(persons.filter((person) => person.heatmaps).map(readOne));
}

async function readOne({ heatmaps, keypoints }) {
  const bytes = Uint8Array.from(atob(heatmaps.png), (c) => c.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const { width, height } = heatmaps;
  const context = new OffscreenCanvas(width, height * keypoints.length).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const gray = context.getImageData(0, 0, width, height * keypoints.length).data;
  const layers = new Map();
  return {
    toImage: heatmaps.to_image,
    /** The heatmap of a keypoint (by index), or the maximum of "all", as a transparent canvas. */
    layer(keypoint) {
      if (!layers.has(keypoint)) {
        const indices = keypoint === "all" ? keypoints.map((_, index) => index) : [keypoint];
        layers.set(keypoint, color(gray, width, height, indices));
      }
      return layers.get(keypoint);
    },
  };
}

/** The maximum of the heatmaps with these indices, colored. */
function color(gray, width, height, indices) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    let value = 0;
    for (const index of indices) value = Math.max(value, gray[(index * width * height + pixel) * 4]);
    const heat = value / 255;
    // From deep red over orange to a pale yellow; the higher, the more opaque.
    image.data[pixel * 4] = 255;
    image.data[pixel * 4 + 1] = Math.round(255 * Math.min(1, Math.max(0, 1.25 * heat - 0.05)));
    image.data[pixel * 4 + 2] = Math.round(200 * Math.max(0, 2 * heat - 1.2));
    image.data[pixel * 4 + 3] = Math.round(255 * Math.min(1, heat * 1.6));
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
