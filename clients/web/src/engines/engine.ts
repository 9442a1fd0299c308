// The contract of an engine: named arrays in, named arrays out.

import type { TensorSpec } from "../bundle/manifest.js";

/** An array as graphs take it. */
export interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}

/** Runs one graph. */
export interface Engine {
  /** What runs it, for people. */
  readonly name: string;
  /** Why the engine that was asked for does not run it; absent where it does. */
  readonly refused?: string;
  run(inputs: Readonly<Record<string, Tensor>>): Promise<Record<string, Float32Array>>;
  close(): Promise<void>;
}

/** A graph of a component, and what is known of it. */
export interface GraphFiles {
  readonly graph: Uint8Array;
  /** The file that holds its large weights, where the graph does not. */
  readonly weights?: { readonly name: string; readonly data: Uint8Array };
  readonly inputs: readonly TensorSpec[];
  /** Lengths of the free axes in a usual run. */
  readonly axes: Readonly<Record<string, number>>;
  /** Whether its answers must be the very bits of every other machine's. */
  readonly isExact: boolean;
  /** The form for browsers with its weights; absent where the bundle has none. */
  webForm?(): Promise<Uint8Array>;
}

/** Opens graphs of a bundle's component. */
export interface Engines {
  open(files: GraphFiles): Promise<Engine>;
}
