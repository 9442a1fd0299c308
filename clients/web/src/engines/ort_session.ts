// A session of either build of ONNX Runtime as an engine.

import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-web/wasm";
import { EngineError } from "../errors.js";
import type { Engine, GraphFiles, Tensor } from "./engine.js";

/** What this client uses of a build. */
export interface OrtBuild {
  readonly InferenceSession: { create(graph: Uint8Array, options: InferenceSession.SessionOptions): Promise<InferenceSession> };
  readonly Tensor: new (type: "float32" | "int64", data: Float32Array | BigInt64Array, shape: readonly number[]) => OrtTensor;
}

/** One open graph. */
class OrtEngine implements Engine {
  constructor(
    readonly name: string,
    private readonly build: OrtBuild,
    private readonly session: InferenceSession,
  ) {}

  async run(inputs: Readonly<Record<string, Tensor>>): Promise<Record<string, Float32Array>> {
    const feeds: Record<string, OrtTensor> = {};
    for (const name of this.session.inputNames) {
      const { shape, data } = inputs[name];
      feeds[name] = new this.build.Tensor(data instanceof Float32Array ? "float32" : "int64", data, shape);
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

/** Open a graph on a provider of a build. */
export async function openSession(name: string, build: OrtBuild, provider: string, graph: Uint8Array, weights?: GraphFiles["weights"]): Promise<Engine> {
  const externalData = weights && [{ path: weights.name, data: weights.data }];
  try {
    return new OrtEngine(name, build, await build.InferenceSession.create(graph, { executionProviders: [provider], externalData }));
  } catch (cause) {
    throw new EngineError(`the engine refuses a graph: ${String(cause)}`, { cause });
  }
}
