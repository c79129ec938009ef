// A person's heatmaps: one gray image of all keypoints, which is colored for one or for all of them.

/** Read the heatmaps of every person of an answer. */
export async function readHeatmaps(persons) {
  return await Promise.all(persons.filter((person) => person.heatmaps).map(readOne));
}

async function readOne({ heatmaps, keypoints }) {
  const { width, height } = heatmaps;
  const gray = heatmaps.gray ?? await decode(heatmaps.png, width, height * keypoints.length);
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

/** The gray bytes of a PNG in base64. */
async function decode(png, width, height) {
  const bytes = Uint8Array.from(atob(png), (c) => c.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height).data.filter((_, index) => index % 4 === 0);
}

// [heat, red, green, blue]: over any image they stand out, and grow brighter.
const COLORS = [[0, 76, 29, 149], [0.35, 219, 39, 119], [0.7, 255, 145, 30], [1, 255, 246, 170]];

function colorOf(heat) {
  const next = Math.max(1, COLORS.findIndex(([end]) => heat <= end));
  const [[low, ...from], [high, ...to]] = COLORS.slice(next - 1, next + 1);
  const part = (heat - low) / (high - low);
  return from.map((value, channel) => Math.round(value + part * (to[channel] - value)));
}

/** The maximum of the heatmaps with these indices, colored; where it is low, the image shows. */
function color(gray, width, height, indices) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    let value = 0;
    for (const index of indices) value = Math.max(value, gray[index * width * height + pixel]);
    const heat = value / 255;
    image.data.set([...colorOf(heat), Math.round(255 * Math.min(1, Math.max(0, 1.8 * heat - 0.15)))], pixel * 4);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
