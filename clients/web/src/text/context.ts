// Text embeddings as they cross the wire: float16, named by their hash.

import { float16Bits, float16Value } from "../numerics/rounding.js";

/** Embeddings `[tokens, width]`; `data` are the little-endian float16 values in C order. */
export interface Context {
  readonly tokens: number;
  readonly width: number;
  readonly data: Uint8Array;
}

/** A context of float32 values `[tokens * width]`, each rounded to float16. */
export function toFloat16(values: Float32Array, width: number): Context {
  const data = new Uint8Array(values.length * 2);
  const view = new DataView(data.buffer);
  values.forEach((value, at) => view.setUint16(at * 2, float16Bits(value), true));
  return { tokens: values.length / width, width, data };
}

/** The values of a context as float32, `[tokens * width]`. */
export function toFloat32(context: Context): Float32Array {
  const view = new DataView(context.data.buffer, context.data.byteOffset, context.data.byteLength);
  return Float32Array.from({ length: context.tokens * context.width }, (_, at) => float16Value(view.getUint16(at * 2, true)));
}

/** The sha256 that a server names a context by, 32 bytes. */
export async function contextHandle(context: Context): Promise<Uint8Array> {
  const head = new TextEncoder().encode(`${context.tokens}x${context.width}:float16:`);
  const all = new Uint8Array(head.length + context.data.length);
  all.set(head);
  all.set(context.data, head.length);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all));
}
