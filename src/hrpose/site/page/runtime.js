// ONNX Runtime in this browser: on WebGPU where there is one, else as WebAssembly, with threads where
// the page is isolated from other origins.

import { addressOf, fetchBytes } from "./files.js";
import { Refused } from "./refused.js";

const MOST_THREADS = 8; // more are hardly faster for networks of this size

// A module whose only function uses a vector of 128 bits: valid where the browser knows SIMD.
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15,
  253, 98, 11,
]);

/** "webgpu" or "wasm": `wanted`, else the best one that this browser and this page have. Throws Refused. */
export async function chooseDevice({ webgpu }, wanted) {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) throw new Refused("noWasm");
  if (!webgpu || wanted === "wasm") return "wasm";
  let adapter = null;
  try {
    adapter = await navigator.gpu?.requestAdapter();
  } catch { /* a driver that fails is as good as none */ }
  if (wanted === "webgpu" && !adapter) throw new Refused("noWebgpu");
  // A processor that plays a graphics card is slower than WebAssembly.
  const emulated = adapter?.info?.isFallbackAdapter || adapter?.info?.architecture === "swiftshader";
  return adapter && (wanted === "webgpu" || !emulated) ? "webgpu" : "wasm";
}

/** The build of ONNX Runtime for WebGPU runs WebAssembly too, so that it can be fallen back to. */
export class Runtime {
  #ort = null;

  constructor(version, threads) {
    this.version = version;
    this.threads = threads;
    this.device = "wasm";
  }

  /** Load the build for a device: `came(count)` is called as bytes come. Throws Refused. */
  static async load({ version, ...builds }, device, came) {
    const { module, binary } = builds[device];
    const cores = navigator.hardwareConcurrency || 1;
    const runtime = new Runtime(version, globalThis.crossOriginIsolated ? Math.min(cores, MOST_THREADS) : 1);
    try {
      const ort = await import(addressOf(module));
      ort.env.logLevel = "error";
      ort.env.wasm.wasmBinary = (await fetchBytes(binary, came)).buffer;
      ort.env.wasm.numThreads = runtime.threads;
      runtime.#ort = ort;
    } catch (error) {
      throw error instanceof Refused ? error : new Refused("noServer", `${module}: ${error.message}`);
    }
    runtime.device = device;
    return runtime;
  }

  /** What runs the networks, in words. */
  get engine() {
    if (this.device === "webgpu") return `ONNX Runtime ${this.version}, WebGPU`;
    const threads = this.threads === 1 ? "1 thread" : `${this.threads} threads`;
    return `ONNX Runtime ${this.version}, WebAssembly, ${threads}`;
  }

  /** A network of an ONNX file's bytes: images (h, w, 3) of RGB bytes to its outputs by name. */
  async open(bytes) {
    const ort = this.#ort;
    const session = await ort.InferenceSession.create(bytes, {
      executionProviders: [this.device],
      logSeverityLevel: 3, // errors: that some nodes run on the processor is no news
    });
    return async (pixels, [width, height]) => {
      const input = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
      const outputs = await session.run({ [session.inputNames[0]]: input });
      const arrays = {};
      for (const name of session.outputNames) arrays[name] = await outputs[name].getData();
      for (const tensor of [input, ...Object.values(outputs)]) tensor.dispose();
      return arrays;
    };
  }
}
