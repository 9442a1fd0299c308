// The contract of an engine: named arrays in, named arrays out.

/** An array as graphs take it. */
export interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}

/** Runs one graph. */
export interface Engine {
  run(inputs: Readonly<Record<string, Tensor>>): Promise<Record<string, Float32Array>>;
  close(): Promise<void>;
}

/** Opens graphs of a bundle's component. */
export interface Engines {
  /** What runs them, for people. */
  readonly name: string;
  open(graph: Uint8Array, weights?: { name: string; data: Uint8Array }): Promise<Engine>;
}
