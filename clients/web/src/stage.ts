// A stage: one component of a bundle opened to run here.

import type { Engine, Tensor } from "./engines/engine.js";
import type { GraphSpec } from "./bundle/manifest.js";
import { InvalidRequest } from "./errors.js";
import { bucketLength } from "./numerics/lengths.js";
import type { Handoff, StageOptions } from "./request.js";
import { type Context, toFloat32 } from "./text/context.js";

/** One run of a stage. */
export interface StageRun {
  readonly seed: bigint;
  readonly imageIndex: number;
  readonly options: StageOptions;
  readonly signal?: AbortSignal;
}

/** How far a stage is; with the last of them its result. */
export interface StageStep {
  readonly done: number;
  readonly total: number;
  readonly result?: Handoff;
}

/** Runs a component. To stop iterating is to stop the run. */
export interface Stage {
  readonly name: string;
  readonly unit: string;
  /** What runs its networks, the largest one where there are several. */
  readonly engine: Engine;
  run(run: StageRun, handoff: Handoff): AsyncGenerator<StageStep>;
  close(): Promise<void>;
}

/** The context as inputs of a graph, at the length of its bucket where the graph has a mask. */
export function contextInputs(name: string, graph: GraphSpec, context: Context | undefined): Record<string, Tensor> {
  const declared = graph.inputs.find((input) => input.name === "context");
  if (declared === undefined) return {};
  const [tokens, width] = declared.shape.slice(-2);
  if (context === undefined) throw new InvalidRequest(`context: ${name} needs text embeddings`, { field: "context" });
  const fits = typeof tokens === "number" ? context.tokens === tokens : context.tokens >= 1 && context.tokens <= 512;
  if (!fits || context.width !== width) {
    const expected = typeof tokens === "number" ? tokens : "1 to 512";
    const message = `context.shape: expected [${expected}, ${width}], got [${context.tokens}, ${context.width}]`;
    throw new InvalidRequest(message, { field: "context.shape" });
  }
  const isMasked = graph.inputs.some((input) => input.name === "context_mask");
  const length = isMasked && typeof tokens !== "number" ? bucketLength(context.tokens) : context.tokens;
  const values = new Float32Array(length * context.width);
  values.set(toFloat32(context));
  const mask = new Float32Array(length).fill(1, 0, context.tokens);
  return {
    context: { shape: [1, length, context.width], data: values },
    context_mask: { shape: [1, length], data: mask },
  };
}

/** Inputs of one row as those of two, the same twice. */
export function doubled(inputs: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, { shape, data }]) => {
      const both = data instanceof Float32Array ? new Float32Array(data.length * 2) : new BigInt64Array(data.length * 2);
      (both as Float32Array).set(data as Float32Array);
      (both as Float32Array).set(data as Float32Array, data.length);
      return [name, { shape: [shape[0] * 2, ...shape.slice(1)], data: both }];
    }),
  );
}
