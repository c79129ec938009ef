// Crops around boxes and the maps between their pixels and the image's, as hrpose.geometry has them.
// Boxes are [x, y, w, h], matrices [[a, b, c], [d, e, f]], pixel centers are at integers.

/**
 * The crop around a box: it grows to the aspect ratio of `input` [w, h], then by `padding`. With
 * `unitLengths` an input's n pixels are n - 1 long (UDP).
 */
export function cropAround([x, y, w, h], input, padding, unitLengths = false) {
  const aspect = input[0] / input[1];
  const size = [Math.max(w, h * aspect) * padding, Math.max(h, w / aspect) * padding];
  const lengths = input.map((length) => length - (unitLengths ? 1 : 0));
  const scale = lengths[0] / size[0];
  const scales = [scale, unitLengths ? lengths[1] / size[1] : scale];
  const center = [x + w / 2, y + h / 2];
  return { input, size, scales, center, middle: lengths.map((length) => length / 2) };
}

/** From pixels of the image to those of the crop. */
export function matrixOf({ scales: [sx, sy], center: [x, y], middle: [u, v] }) {
  return [[sx, 0, u - sx * x], [0, sy, v - sy * y]];
}

/** From pixels of the crop to those of the image. */
export function inverseOf({ scales: [sx, sy], center: [x, y], middle: [u, v] }) {
  return [[1 / sx, 0, x - u / sx], [0, 1 / sy, y - v / sy]];
}

export function transform([[a, b, c], [d, e, f]], [x, y]) {
  return [a * x + b * y + c, d * x + e * y + f];
}

/** A box under a matrix without rotation: it ends at edges of pixels, matrices map their centers. */
export function transformBox(matrix, [x, y, w, h]) {
  const [left, top] = transform(matrix, [x - 0.5, y - 0.5]);
  const [right, bottom] = transform(matrix, [x + w - 0.5, y + h - 0.5]);
  return [left + 0.5, top + 0.5, right - left, bottom - top];
}

/** The part of a box inside an image [w, h]; 0 wide or high where it is outside. */
export function clipBox([x, y, w, h], [width, height]) {
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  const [left, top] = [clamp(x, width), clamp(y, height)];
  return [left, top, clamp(x + w, width) - left, clamp(y + h, height) - top];
}

/** Intersection over union of two boxes. */
export function iou([ax, ay, aw, ah], [bx, by, bw, bh]) {
  const across = Math.min(ax + aw, bx + bw) - Math.max(ax, bx);
  const down = Math.min(ay + ah, by + bh) - Math.max(ay, by);
  const common = Math.max(across, 0) * Math.max(down, 0);
  return common / Math.max(aw * ah + bw * bh - common, 1e-9);
}
