// A person's heatmaps: one gray PNG with all joints, colored joint by joint.

/** Read the heatmaps of every person of an answer. */
export async function readHeatmaps(people) {
  return await Promise.all(people.filter((person) => person.heatmaps).map(readOne));
}

async function readOne({ heatmaps, keypoints }) {
  const bytes = Uint8Array.from(atob(heatmaps.png), (c) => c.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const { width, height } = heatmaps;
  const sheet = new OffscreenCanvas(width, height * keypoints.length).getContext("2d");
  sheet.drawImage(bitmap, 0, 0);
  bitmap.close();
  const gray = sheet.getImageData(0, 0, width, height * keypoints.length).data;
  const layers = new Map();
  return {
    toPicture: heatmaps.to_picture,
    /** One joint's heatmap, or of all joints the highest, as a canvas with transparency. */
    layer(joint) {
      if (!layers.has(joint)) {
        const joints = joint === "all" ? keypoints.map((_, i) => i) : [joint];
        layers.set(joint, color(gray, width, height, joints));
      }
      return layers.get(joint);
    },
  };
}

function color(gray, width, height, joints) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    let value = 0;
    for (const joint of joints) value = Math.max(value, gray[(joint * width * height + pixel) * 4]);
    const heat = value / 255;
    // From deep red over orange to a pale yellow, opaque where it is hot.
    image.data[pixel * 4] = 255;
    image.data[pixel * 4 + 1] = Math.round(255 * Math.min(1, Math.max(0, 1.25 * heat - 0.05)));
    image.data[pixel * 4 + 2] = Math.round(200 * Math.max(0, 2 * heat - 1.2));
    image.data[pixel * 4 + 3] = Math.round(255 * Math.min(1, heat * 1.6));
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
