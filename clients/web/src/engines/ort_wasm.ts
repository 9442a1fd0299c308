// ONNX Runtime compiled to WebAssembly. The only file that imports it.

import * as ort from "onnxruntime-web/wasm";
import type { Engine, Engines, GraphFiles } from "./engine.js";
import { openSession } from "./ort_session.js";

/** Where the WebAssembly file is, and how many threads use it. */
export interface WasmOptions {
  /** URL of `ort-wasm-simd-threaded.wasm`; not needed where `binary` is given. */
  readonly url?: string;
  readonly binary?: Uint8Array;
  /** More than 1 needs a page that is isolated from other origins. On two cores they make the base stage slower. */
  readonly threads?: number;
}

/** The engines of this page, worker or process: there is one set of settings for all of them. */
export class OrtWasm implements Engines {
  constructor(options: WasmOptions = {}) {
    ort.env.wasm.numThreads = options.threads ?? 1;
    if (options.url) ort.env.wasm.wasmPaths = { wasm: options.url };
    if (options.binary) ort.env.wasm.wasmBinary = options.binary as unknown as ArrayBuffer;
    ort.env.logLevel = "error";
  }

  open({ graph, weights }: GraphFiles): Promise<Engine> {
    return openSession("ort wasm", ort, "wasm", graph, weights);
  }
}
