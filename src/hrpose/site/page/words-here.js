// Texts in the place of those that speak of a server, and of what only this page can meet.

export const WORDS_HERE = {
  en: {
    dropMore: "or paste them. They stay on this device: nothing is sent anywhere.",
    noServer: "A file of this page cannot be loaded. Check the connection, and that the folder is complete.",
    shrunk: "Estimated at {width} by {height} pixels; keypoints are in pixels of the original, {fullWidth} by {fullHeight}.",
    "file-too-large": "This file is too large for this page.",
    "image-too-large": "This image has more than 100 megapixels. Make it smaller.",
    "image-unsupported": "This is not an image that this browser can read. Convert it to JPEG or PNG.",
    noEngine: "The model cannot be run in this browser.",
    noWasm: "This browser lacks WebAssembly with SIMD, which the model needs. Use a newer one.",
    noWebgpu: "This browser has no WebGPU. Open the page without ?device=webgpu.",
  },
  zh: {
    dropMore: "也可以直接粘贴。文件只留在本设备上，不会发送到任何地方。",
    noServer: "本页的一个文件无法加载。请检查网络，并确认文件夹完整。",
    shrunk: "以 {width} x {height} 像素计算；关键点坐标仍以原图（{fullWidth} x {fullHeight}）的像素为单位。",
    "file-too-large": "文件太大，本页无法处理。",
    "image-too-large": "图片超过 1 亿像素，请缩小后再试。",
    "image-unsupported": "此浏览器无法把它当作图片读取，请转换为 JPEG 或 PNG。",
    noEngine: "模型无法在此浏览器中运行。",
    noWasm: "此浏览器不支持模型所需的 WebAssembly SIMD，请使用较新的浏览器。",
    noWebgpu: "此浏览器没有 WebGPU。请打开不带 ?device=webgpu 的地址。",
  },
};
