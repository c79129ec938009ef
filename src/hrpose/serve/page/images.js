// A file as an image, in the size that is sent to the server: a large one is shrunk before the
// upload, and the answer enlarged to the original's pixels.

import { Refused } from "./refused.js";

const LONGEST = 2560; // pixels of the longer side of what is sent
const LARGE = 8_000_000; // bytes: above, a file is encoded again
const MOST_PIXELS = 100_000_000; // as hrpose reads at most

/** What is sent for a bitmap: `upload` of `sent` [w, h], of an original of `size` [w, h] pixels. */
export async function prepare(file, bitmap) {
  const size = [bitmap.width, bitmap.height];
  const scale = Math.min(1, LONGEST / Math.max(...size));
  if (scale === 1 && file.size <= LARGE) return { upload: file, size, sent: size };
  const sent = size.map((length) => Math.max(1, Math.round(length * scale)));
  const canvas = new OffscreenCanvas(...sent);
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // under transparent pixels, as on the server
  context.fillRect(0, 0, ...sent);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, ...sent);
  return { upload: await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 }), size, sent };
}

/** The file's bitmap, upright. Throws Refused where the browser cannot read it, or it is too large. */
export async function decode(file) {
  if (await pixelsOf(file) > MOST_PIXELS) throw new Refused("image-too-large");
  try {
    return await createImageBitmap(file);
  } catch {
    throw new Refused("unreadable");
  }
}

/** The number of pixels that a file's header states, before they are decoded; 0 if it cannot be read. */
async function pixelsOf(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await new Promise((done, fail) => {
      image.onload = done;
      image.onerror = fail;
    });
    return image.naturalWidth * image.naturalHeight;
  } catch {
    return 0;
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

/** Boxes [x, y, w, h] in pixels of the original, in those of what is sent. */
export function toSent(boxes, { size, sent }) {
  const [sx, sy] = [sent[0] / size[0], sent[1] / size[1]];
  return boxes.map(([x, y, w, h]) => [x * sx, y * sy, w * sx, h * sy]);
}

/** An answer in pixels of what was sent, in those of the original. Pixel centers are integers. */
export function toOriginal(answer, { size, sent }) {
  if (size === sent) return answer;
  const [sx, sy] = [size[0] / sent[0], size[1] / sent[1]];
  const [dx, dy] = [(sx - 1) / 2, (sy - 1) / 2];
  const rounded = (value) => Math.round(value * 100) / 100;
  const persons = answer.persons.map(({ box: [x, y, w, h], keypoints, heatmaps, ...person }) => ({
    ...person,
    box: [x * sx, y * sy, w * sx, h * sy].map(rounded),
    keypoints: keypoints.map((point) => ({
      ...point, x: rounded(point.x * sx + dx), y: rounded(point.y * sy + dy),
    })),
    ...(heatmaps && { heatmaps: { ...heatmaps, to_image: enlarged(heatmaps.to_image, [sx, sy], [dx, dy]) } }),
  }));
  return { ...answer, width: size[0], height: size[1], persons };
}

const enlarged = (matrix, scales, shifts) =>
  matrix.map(([a, b, c], axis) => [
    a * scales[axis], b * scales[axis], c * scales[axis] + shifts[axis],
  ]);
