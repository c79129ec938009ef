// Images from the camera, one after another.

import { Refused } from "./refused.js";

const LONGEST = 960; // pixels of the longer side: more would only be slower

/** One use of the camera: once stopped, it stays off. */
export class Camera {
  #stream = null;
  #stopped = false;
  #gone = false;
  #video = document.createElement("video");

  get on() {
    return this.#stream !== null;
  }

  /** Whether it ended by itself: unplugged, or the permission was withdrawn. */
  get gone() {
    return this.#gone;
  }

  /** Ask for the camera; it stays off if `stop` was called meanwhile. Throws Refused. */
  async start() {
    if (!navigator.mediaDevices) throw new Refused("insecure", "");
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({
        video: { width: { ideal: 1280 }, height: { ideal: 720 } },
      });
      if (this.#stopped) {
        this.stop();
        return;
      }
      for (const track of this.#stream.getTracks()) {
        track.addEventListener("ended", () => {
          this.#gone = true;
          this.stop();
        });
      }
      this.#video.muted = true;
      this.#video.playsInline = true;
      this.#video.srcObject = this.#stream;
      await this.#video.play();
    } catch (error) {
      throw new Refused("noCamera", error.message);
    }
  }

  stop() {
    this.#stopped = true;
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
    this.#video.srcObject = null;
  }

  /** The current image, as a JPEG. */
  async frame() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    const scale = Math.min(1, LONGEST / Math.max(width, height));
    const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale));
    canvas.getContext("2d").drawImage(this.#video, 0, 0, canvas.width, canvas.height);
    return await canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
  }
}
