// Pixels: decoding a file, cutting a crop out of an image, and reducing a large one, as hrpose.image
// and hrpose.geometry do with Pillow and OpenCV. Images are {data, width, height} with RGBA bytes,
// crops RGB bytes, row by row.

import { Refused } from "./refused.js";
import { inverseOf } from "./crop.js";

/** The upright image in a blob, without its color profile, transparency on white. Throws Refused. */
export async function readImage(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Refused("image-unsupported");
  }
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

/** Cut a crop out of an image, bilinear; black outside the image. */
export function warp({ data, width, height }, crop) {
  const [columns, rows] = crop.input;
  const [[a, , c], [, e, f]] = inverseOf(crop);
  const warped = new Uint8Array(columns * rows * 3);
  const value = (x, y, channel) =>
    x < 0 || y < 0 || x >= width || y >= height ? 0 : data[(y * width + x) * 4 + channel];
  let at = 0;
  for (let row = 0; row < rows; row += 1) {
    const y = e * row + f;
    const top = Math.floor(y);
    const down = y - top;
    for (let column = 0; column < columns; column += 1) {
      const x = a * column + c;
      const left = Math.floor(x);
      const across = x - left;
      for (let channel = 0; channel < 3; channel += 1) {
        const above = value(left, top, channel) * (1 - across) + value(left + 1, top, channel) * across;
        const below = value(left, top + 1, channel) * (1 - across)
          + value(left + 1, top + 1, channel) * across;
        warped[at] = toNearest(above * (1 - down) + below * down);
        at += 1;
      }
    }
  }
  return warped;
}

/** The nearest whole number, of two the even one, as OpenCV rounds: halves are frequent here. */
function toNearest(value) {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 === 1 ? up - 1 : up;
}

/**
 * The image at `size` [w, h], no larger: each pixel is the mean of the area that it covers. In single
 * precision and rows first, as OpenCV does it, so that the same pixels come out.
 */
export function reduce({ data, width, height }, [toWidth, toHeight]) {
  const columns = shares(width, toWidth);
  const line = new Float32Array(toWidth * 3);
  const readRow = (row) => columns.forEach((column, x) => {
    for (let channel = 0; channel < 3; channel += 1) {
      let sum = 0;
      for (const [from, share] of column) {
        sum = Math.fround(sum + Math.fround(data[(row * width + from) * 4 + channel] * share));
      }
      line[x * 3 + channel] = sum;
    }
  });
  const reduced = new Uint8ClampedArray(toWidth * toHeight * 4).fill(255);
  shares(height, toHeight).forEach((rows, y) => {
    const sums = new Float32Array(toWidth * 3);
    for (const [from, share] of rows) {
      readRow(from);
      for (let i = 0; i < sums.length; i += 1) sums[i] += Math.fround(line[i] * share);
    }
    for (let x = 0; x < toWidth; x += 1) {
      for (let channel = 0; channel < 3; channel += 1) {
        reduced[(y * toWidth + x) * 4 + channel] = toNearest(sums[x * 3 + channel]);
      }
    }
  });
  return { data: reduced, width: toWidth, height: toHeight };
}

/** For each of `to` pixels of a line, the pixels of `from` that it covers: [index, part of 1]. */
function shares(from, to) {
  const length = from / to;
  return Array.from({ length: to }, (_, index) => {
    const [start, end] = [index * length, Math.min((index + 1) * length, from)];
    const covered = [];
    for (let pixel = Math.floor(start); pixel < Math.ceil(end - 1e-3); pixel += 1) {
      const part = Math.min(end, pixel + 1) - Math.max(start, pixel);
      covered.push([pixel, Math.fround(part / (end - start))]);
    }
    return covered;
  });
}

/** The columns of a crop in reverse: its mirror image. */
export function mirrored(crop, [columns, rows]) {
  const flipped = new Uint8Array(crop.length);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const from = (row * columns + column) * 3;
      const to = (row * columns + columns - 1 - column) * 3;
      for (let channel = 0; channel < 3; channel += 1) flipped[to + channel] = crop[from + channel];
    }
  }
  return flipped;
}
