// ONNX Runtime compiled to WebAssembly. The only file that imports it.

import * as ort from "onnxruntime-web/wasm";
import { EngineError } from "../errors.js";
import type { Engine, Engines, Tensor } from "./engine.js";

/** Where the WebAssembly file is, and how many threads use it. */
export interface WasmOptions {
  /** URL of `ort-wasm-simd-threaded.wasm`; not needed where `binary` is given. */
  readonly url?: string;
  readonly binary?: Uint8Array;
  /** More than 1 needs a page that is isolated from other origins. On two cores they make the base stage slower. */
  readonly threads?: number;
}

class OrtEngine implements Engine {
  constructor(private readonly session: ort.InferenceSession) {}

  async run(inputs: Readonly<Record<string, Tensor>>): Promise<Record<string, Float32Array>> {
    const feeds: Record<string, ort.Tensor> = {};
    for (const name of this.session.inputNames) {
      const { shape, data } = inputs[name];
      feeds[name] = new ort.Tensor(data instanceof Float32Array ? "float32" : "int64", data, shape);
    }
    try {
      const outputs = await this.session.run(feeds);
      return Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, value.data as Float32Array]));
    } catch (cause) {
      throw new EngineError(`the engine failed in a run: ${String(cause)}`, { cause });
    }
  }
  async close(): Promise<void> {
    await this.session.release();
  }
}

/** The engines of this page, worker or process: there is one set of settings for all of them. */
export class OrtWasm implements Engines {
  readonly name = "ort wasm";

  constructor(options: WasmOptions = {}) {
    ort.env.wasm.numThreads = options.threads ?? 1;
    if (options.url) ort.env.wasm.wasmPaths = { wasm: options.url };
    if (options.binary) ort.env.wasm.wasmBinary = options.binary as unknown as ArrayBuffer;
    ort.env.logLevel = "error";
  }

  async open(graph: Uint8Array, weights?: { name: string; data: Uint8Array }): Promise<Engine> {
    const externalData = weights && [{ path: weights.name, data: weights.data }];
    try {
      return new OrtEngine(await ort.InferenceSession.create(graph, { executionProviders: ["wasm"], externalData }));
    } catch (cause) {
      throw new EngineError(`the engine refuses a graph: ${String(cause)}`, { cause });
    }
  }
}
