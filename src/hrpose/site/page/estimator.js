// From an image to its poses: detector, crops, network, codec, scores, as hrpose.estimator has it.
// The answer is that of the server of `hrpose serve`.

import { decode, mergeFlipped, stridesOf } from "./codec.js";
import { cropAround, inverseOf, transform } from "./crop.js";
import { letterbox, persons } from "./detection.js";
import { mirrored, warp } from "./pixels.js";
import { keypointScore, poseScore, select } from "./scores.js";

const MOST_PERSONS = 100;

const rounded = (value, digits) => Math.round(value * 10 ** digits) / 10 ** digits;

export class Estimator {
  /**
   * `pose` and `detector` are {network, metadata}; without a detector the image is one box. `least`
   * has the least scores of the `pose` of a detected person and of a `keypoint` that is present.
   */
  constructor(name, pose, detector, least) {
    this.name = name;
    this.least = least;
    this.pose = pose;
    this.detector = detector;
    const { input_wh: input, codec } = pose.metadata;
    this.heatmapSize = input.map((length) => Math.floor(length / codec.stride));
  }

  /** The persons in an image, best first: {box, score}. */
  async detect(image) {
    const size = [image.width, image.height];
    if (!this.detector) return [{ box: [0, 0, ...size], score: 1 }];
    const { network, metadata } = this.detector;
    const { pixels, crop } = letterbox(image, metadata.side);
    const { confidence = { heat: 1, size: 0, offset: 0 }, threshold } = metadata;
    return persons(await network(pixels, crop.input), crop, size, { confidence, threshold })
      .slice(0, MOST_PERSONS);
  }

  cropAround(box) {
    const { input_wh: input, padding, codec } = this.pose.metadata;
    return cropAround(box, input, padding, codec.name === "udp");
  }

  /** The heatmaps (k, h, w) of a crop of the image. */
  async heatmaps(image, crop, flipTest = false) {
    const { network, metadata } = this.pose;
    const pixels = warp(image, crop);
    const { heatmaps: direct } = await network(pixels, crop.input);
    if (!flipTest) return direct;
    const { heatmaps: mirror } = await network(mirrored(pixels, crop.input), crop.input);
    return mergeFlipped(direct, mirror, this.heatmapSize, metadata.skeleton.flip_pairs, metadata.codec);
  }

  /**
   * The answer for an image: in `boxes` [x, y, w, h] of its pixels, by default those of the detector.
   * `between()` is awaited before each person, and may throw.
   */
  async poses(image, { boxes = null, heatmaps = false, flipTest = false, minScore = null }, between) {
    const { metadata } = this.pose;
    const given = boxes?.map((box) => ({ box, score: 1 }));
    const found = given ?? await this.detect(image);
    const estimated = [];
    for (const { box, score } of found) {
      await between();
      const crop = this.cropAround(box);
      const maps = await this.heatmaps(image, crop, flipTest);
      const inverse = inverseOf(crop);
      const keypoints = decode(maps, this.heatmapSize, metadata.codec).map(({ x, y, peak }) => {
        const [imageX, imageY] = transform(inverse, [x, y]);
        return { x: imageX, y: imageY, score: keypointScore(peak, metadata.calibration) };
      });
      estimated.push({ box, score: poseScore(keypoints, score), keypoints, crop, maps });
    }
    const selected = select(estimated, {
      minScore: given ? 0 : minScore ?? (this.detector ? this.least.pose : 0),
      sigmas: metadata.skeleton.sigmas,
      distinct: !given && this.detector !== null,
    });
    return {
      model: this.name,
      width: image.width,
      height: image.height,
      boxes_from: given ? "request" : this.detector ? "builtin" : "the full image",
      threshold: this.least.keypoint,
      persons: selected.map((person) => this.#person(person, heatmaps)),
    };
  }

  #person({ box, score, keypoints, crop, maps }, withHeatmaps) {
    const names = this.pose.metadata.skeleton.keypoints;
    const person = {
      box: box.map((value) => rounded(value, 2)),
      score: rounded(score, 4),
      keypoints: keypoints.map((point, index) => ({
        name: names[index],
        x: rounded(point.x, 2),
        y: rounded(point.y, 2),
        score: rounded(point.score, 4),
        present: point.score >= this.least.keypoint,
      })),
    };
    return withHeatmaps ? { ...person, heatmaps: this.#heatmaps(maps, crop) } : person;
  }

  /** The heatmaps as gray bytes, and the map from their pixels to the image's. */
  #heatmaps(maps, crop) {
    const gray = Uint8Array.from(maps, (value) => Math.round(255 * Math.min(Math.max(value, 0), 1)));
    const [width, height] = this.heatmapSize;
    const [sx, sy] = stridesOf(this.heatmapSize, this.pose.metadata.codec);
    const toImage = inverseOf(crop).map(([a, b, c]) => [a * sx, b * sy, c]);
    return { gray, width, height, to_image: toImage };
  }
}
