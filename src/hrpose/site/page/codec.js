// Heatmaps to keypoints, as hrpose.codec has it: the quarter offset (gaussian), a Taylor step (DARK,
// UDP), and the flip test. Heatmaps are one Float32Array (k, h, w).

/** Keypoints {x, y, peak} in input pixels of a person's heatmaps of `size` [w, h]. */
export function decode(heatmaps, [width, height], { name, sigma, stride }) {
  const area = width * height;
  const strides = stridesOf([width, height], { name, stride });
  return Array.from({ length: heatmaps.length / area }, (_, keypoint) => {
    const map = heatmaps.subarray(keypoint * area, (keypoint + 1) * area);
    const at = highest(map);
    const peak = map[at];
    if (!(peak > 0)) return { x: 0, y: 0, peak };
    const [x, y] = [at % width, Math.floor(at / width)];
    const step = name === "gaussian" ? quarterOffset : taylorStep;
    const [dx, dy] = step(map, [x, y], [width, height], sigma);
    return { x: (x + dx) * strides[0], y: (y + dy) * strides[1], peak };
  });
}

/** Input pixels per heatmap pixel, along x and y: UDP counts lengths between pixel centers. */
export function stridesOf(size, { name, stride }) {
  return size.map((n) => (name === "udp" ? (n * stride - 1) / Math.max(n - 1, 1) : stride));
}

function highest(map) {
  let at = 0;
  for (let index = 1; index < map.length; index += 1) if (map[index] > map[at]) at = index;
  return at;
}

/** A quarter pixel toward the higher neighbor, where the peak is not near the border. */
function quarterOffset(map, [x, y], [width, height]) {
  if (x <= 1 || x >= width - 1 || y <= 1 || y >= height - 1) return [0, 0];
  const at = y * width + x;
  return [1, width].map((step) => 0.25 * Math.sign(map[at + step] - map[at - step]));
}

/** A Newton step on the logarithm of the smoothed heatmap, at most one pixel (DARK, section 3.2). */
function taylorStep(map, [x, y], [width, height], sigma) {
  if (x <= 1 || x >= width - 2 || y <= 1 || y >= height - 2) return [0, 0];
  const log = smoothedAround(map, [x, y], [width, height], sigma)
    .map((value) => Math.log(Math.max(value, 1e-10)));
  const at = (down, across) => log[(2 + down) * 5 + 2 + across];
  const dx = (at(0, 1) - at(0, -1)) / 2;
  const dy = (at(1, 0) - at(-1, 0)) / 2;
  const dxx = (at(0, 2) - 2 * at(0, 0) + at(0, -2)) / 4;
  const dyy = (at(2, 0) - 2 * at(0, 0) + at(-2, 0)) / 4;
  const dxy = (at(1, 1) - at(-1, 1) - at(1, -1) + at(-1, -1)) / 4;
  const determinant = dxx * dyy - dxy * dxy;
  if (!(dxx < 0 && determinant > 1e-12)) return [0, 0];
  return [dxy * dy - dyy * dx, dxy * dx - dxx * dy]
    .map((numerator) => Math.min(Math.max(numerator / determinant, -1), 1));
}

/** The 5 x 5 pixels around a point of the heatmap, smoothed; outside the heatmap all is zero. */
function smoothedAround(map, [x, y], [width, height], sigma) {
  const radius = Math.ceil(2.5 * sigma);
  const spread = 0.3 * (radius - 1) + 0.8;
  const kernel = Array.from({ length: 2 * radius + 1 }, (_, i) =>
    Math.exp(-((i - radius) ** 2) / (2 * spread ** 2)));
  const total = kernel.reduce((sum, value) => sum + value, 0);
  const length = 2 * radius + 5;
  // First along x, for the five columns of all rows that are needed.
  const across = Array.from({ length }, (_, row) => [0, 1, 2, 3, 4].map((column) => {
    const fromRow = y + row - radius - 2;
    if (fromRow < 0 || fromRow >= height) return 0;
    return kernel.reduce((sum, weight, i) => {
      const from = x + column - 2 + i - radius;
      return from < 0 || from >= width ? sum : sum + weight * map[fromRow * width + from];
    }, 0) / total;
  }));
  return [0, 1, 2, 3, 4].flatMap((row) => [0, 1, 2, 3, 4].map((column) =>
    kernel.reduce((sum, weight, i) => sum + weight * across[row + i][column], 0) / total));
}

/**
 * The flip test: the mean of the heatmaps of a crop and of its mirror image, whose columns are
 * reversed and whose left and right change places; but for UDP everything moves one pixel.
 */
export function mergeFlipped(direct, mirror, [width, height], flipPairs, { name }) {
  const area = width * height;
  const order = Array.from({ length: direct.length / area }, (_, keypoint) => keypoint);
  for (const [left, right] of flipPairs) [order[left], order[right]] = [right, left];
  const shift = name === "udp" ? 0 : 1;
  return direct.map((value, index) => {
    const keypoint = Math.floor(index / area);
    const row = Math.floor((index % area) / width);
    const column = Math.max((index % width) - shift, 0);
    const from = order[keypoint] * area + row * width + (width - 1 - column);
    return (value + mirror[from]) * 0.5;
  });
}
