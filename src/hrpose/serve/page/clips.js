// Frames of a clip as images, at times spread evenly over it; the browser decodes them.

import { Refused } from "./refused.js";

const FRAMES = 12;
const LEAST_SECONDS = 0.2; // between two frames
const LONGEST = 1920; // pixels of the longer side
const PATIENCE = 15_000; // milliseconds for one step

export function isClip(file) {
  return file.type.startsWith("video/") || /\.(mp4|m4v|mov|webm|mkv|avi|ogv)$/i.test(file.name ?? "");
}

/** Yield {file, name, index, count} of each frame. Throws Refused where the browser cannot play it. */
export async function* readFrames(clip) {
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  video.src = URL.createObjectURL(clip);
  try {
    await happens(video, "loadeddata");
    const seconds = await duration(video);
    const count = Math.max(1, Math.min(FRAMES, Math.floor(seconds / LEAST_SECONDS)));
    for (let index = 0; index < count; index += 1) {
      const time = (seconds * (index + 0.5)) / count;
      await seek(video, time);
      yield { file: await frame(video), name: `${clip.name} ${clock(time)}`, index, count };
    }
  } finally {
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load();
  }
}

/** The clip's seconds; recordings of browsers say them only once their end was reached. */
async function duration(video) {
  if (!Number.isFinite(video.duration)) await seek(video, 1e7);
  return Number.isFinite(video.duration) ? video.duration : video.currentTime;
}

async function seek(video, time) {
  const done = happens(video, "seeked");
  video.currentTime = time;
  await done;
}

async function frame(video) {
  const { videoWidth: width, videoHeight: height } = video;
  if (!width) throw new Refused("clipUnreadable"); // sound alone
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale));
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
}

/** Wait for an event of the video. */
async function happens(video, kind) {
  const ended = new AbortController();
  try {
    await new Promise((done, fail) => {
      video.addEventListener(kind, done, { signal: ended.signal });
      video.addEventListener("error", () => fail(new Refused("clipUnreadable")), { signal: ended.signal });
      setTimeout(() => fail(new Refused("clipUnreadable")), PATIENCE);
    });
  } finally {
    ended.abort();
  }
}

/** 63.25 as 1:03.2 */
function clock(seconds) {
  const tenths = Math.floor(seconds * 10);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return `${Math.floor(tenths / 600)}:${rest}`;
}
