// ONNX Runtime on WebGPU. The only file that imports that build: its WebAssembly file is 27 MB.

import * as ort from "onnxruntime-web/webgpu";
import { EngineError } from "../errors.js";
import type { Engine, Engines, GraphFiles } from "./engine.js";
import { openSession } from "./ort_session.js";

/** Where the WebAssembly file of this build is. */
export interface WebGpuOptions {
  /** URL of `ort-wasm-simd-threaded.asyncify.wasm`. */
  readonly url: string;
}

/** Engines on the graphics card, of the form for browsers where the bundle has one. Nothing checks what they compute: see `CheckedEngines`. */
export class OrtWebGpu implements Engines {
  constructor({ url }: WebGpuOptions) {
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = { wasm: url };
    ort.env.logLevel = "error";
  }

  async open({ graph, weights, webForm }: GraphFiles): Promise<Engine> {
    // Without an adapter the build would fall back by itself, and call that WebGPU.
    const adapter = await (globalThis.navigator as { gpu?: { requestAdapter(): Promise<unknown> } } | undefined)?.gpu?.requestAdapter();
    if (!adapter) throw new EngineError("this browser offers no WebGPU adapter");
    return openSession("ort webgpu", ort, "webgpu", webForm ? await webForm() : graph, weights);
  }
}
