// The person detector: its input, and the boxes in its output, as hrpose.detection.person_detector
// has them.

import { clipBox, cropAround, inverseOf, iou, transformBox } from "./crop.js";
import { reduce, warp } from "./pixels.js";

const STRIDE = 4; // input pixels for a cell of the maps
const UNIT_OFFSET = (STRIDE - 1) / 2; // the input pixel in the middle of the first cell
const MIN_PEAK = 0.02;
const MOST_PEAKS = 100;
const NMS_IOU = 0.5;
const SAME_IOU = 0.5; // cells beside a peak whose boxes overlap its own so much are of one person
const MULTIPLE = 32; // sides of the input are multiples of the stride of the coarsest branch
const MAX_REDUCTION = 2; // a longer image is reduced by averaging before the warp
const NEIGHBORS = [[0, 0], [-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 1], [1, -1], [1, 0], [1, 1]];

/** The input of the network for an image, `side` long in its aspect ratio: {pixels, crop}. */
export function letterbox(image, side) {
  const size = [image.width, image.height];
  const longest = Math.max(...size);
  const input = size.map((length) =>
    Math.max(1, Math.ceil((length * side) / (longest * MULTIPLE))) * MULTIPLE);
  const crop = cropAround([0, 0, ...size], input, 1);
  const shrink = (MAX_REDUCTION * side) / longest;
  if (shrink >= 1) return { pixels: warp(image, crop), crop };
  const small = size.map((length) => Math.max(1, Math.round(length * shrink)));
  const pixels = warp(reduce(image, small), cropAround([0, 0, ...small], input, 1));
  return { pixels, crop };
}

/**
 * The peaks of `heat` (h, w) at or above `threshold`, best first: {box, peak} in input pixels, where
 * `distances` (4, h, w) are those to the left, top, right and bottom side. A box is the mean of those
 * of the cells beside the peak, by their heat squared.
 */
export function decodePeaks(heat, distances, [width, height], threshold = MIN_PEAK) {
  const peaks = [];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const peak = heat[y * width + x];
      if (peak < threshold) continue;
      const cells = NEIGHBORS.map(([down, across]) => [y + down, x + across])
        .filter(([row, column]) => row >= 0 && column >= 0 && row < height && column < width);
      if (cells.every(([row, column]) => heat[row * width + column] <= peak)) peaks.push({ peak, cells });
    }
  }
  peaks.sort((one, other) => other.peak - one.peak);
  return peaks.slice(0, MOST_PEAKS).map(({ peak, cells }) => {
    const boxes = cells.map(([row, column]) => boxAt(distances, row, column, [width, height]));
    const weights = cells.map(([row, column], index) =>
      (iou(boxes[index], boxes[0]) > SAME_IOU ? heat[row * width + column] ** 2 : 0));
    const total = Math.max(weights.reduce((sum, weight) => sum + weight, 0), 1e-12);
    const mean = (of) => boxes.reduce((sum, box, index) => sum + of(box) * weights[index], 0) / total;
    const [left, top] = [mean((box) => box[0]), mean((box) => box[1])];
    const [right, bottom] = [mean((box) => box[0] + box[2]), mean((box) => box[1] + box[3])];
    return { box: [left, top, right - left, bottom - top], peak };
  });
}

function boxAt(distances, row, column, [width, height]) {
  const [left, top, right, bottom] = [0, 1, 2, 3].map((side) =>
    distances[(side * height + row) * width + column]);
  const [x, y] = [column * STRIDE + UNIT_OFFSET, row * STRIDE + UNIT_OFFSET];
  return [x - left, y - top, left + right, top + bottom];
}

/** The probability that a peak's box is a person's: hrpose.metadata.Confidence. */
export function confidenceOf(peak, [, , w, h], { heat, size, offset }) {
  if (heat === 1 && size === 0 && offset === 0) return peak;
  const clipped = Math.min(Math.max(peak, 1e-3), 1 - 1e-3);
  const side = Math.max(Math.sqrt(w * h), 1);
  const logit = heat * Math.log(clipped / (1 - clipped)) + size * Math.log2(side / 64) + offset;
  return 1 / (1 + Math.exp(-Math.min(Math.max(logit, -100), 100)));
}

/** Without the boxes that overlap a better one; {box, score}, best first. */
export function withoutOverlaps(found, most = NMS_IOU) {
  const kept = [];
  for (const one of found.toSorted((a, b) => b.score - a.score)) {
    if (kept.every((better) => iou(better.box, one.box) <= most)) kept.push(one);
  }
  return kept;
}

/** The persons in an image of `size` [w, h], best first: {box, score}, from the network's outputs. */
export function persons({ heat, distances }, crop, size, { confidence, threshold }) {
  const [columns, rows] = crop.input.map((length) => length / STRIDE);
  const scored = decodePeaks(heat, distances, [columns, rows])
    .map(({ box, peak }) => ({ box, score: confidenceOf(peak, box, confidence) }))
    .filter(({ score }) => score >= threshold);
  const inverse = inverseOf(crop);
  return withoutOverlaps(scored)
    .map(({ box, score }) => ({ box: clipBox(transformBox(inverse, box), size), score }))
    .filter(({ box: [, , w, h] }) => w > 0 && h > 0);
}
