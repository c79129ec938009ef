// Pictures from the camera, one after the other.

import { Refused } from "./server.js";

const LONGEST = 960; // pixels: more would only make each picture slower

/** One use of the camera: once stopped, it stays so. */
export class Camera {
  #stream = null;
  #stopped = false;
  #gone = false;
  #video = document.createElement("video");

  get on() {
    return this.#stream !== null;
  }

  /** It ended by itself: unplugged, or the permission was taken back. */
  get gone() {
    return this.#gone;
  }

  /** Ask for the camera; it is not on where `stop` came first. Throws Refused. */
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

  /** What the camera sees now, as a JPEG. */
  async frame() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    const scale = Math.min(1, LONGEST / Math.max(width, height));
    const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale));
    canvas.getContext("2d").drawImage(this.#video, 0, 0, canvas.width, canvas.height);
    return await canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
  }
}
