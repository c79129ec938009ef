// Pictures from the camera, one after the other.

const LONGEST = 960; // pixels: more would only make each picture slower

export class Camera {
  #stream = null;
  #video = document.createElement("video");

  get on() {
    return this.#stream !== null;
  }

  async start() {
    this.#stream = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: 1280 }, height: { ideal: 720 } },
    });
    this.#video.muted = true;
    this.#video.playsInline = true;
    this.#video.srcObject = this.#stream;
    await this.#video.play();
  }

  stop() {
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
