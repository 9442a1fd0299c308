// Philox 4x32-10 (Salmon et al. 2011): words at an address, without any state of a generator.

/** The 64-bit seed as two 32-bit words, the low one first. */
export type Key = readonly [number, number];

/** The largest seed. */
export const MAX_SEED = (1n << 64n) - 1n;

/** The key of a seed of 0 to 2^64 - 1. */
export function keyOf(seed: bigint): Key {
  return [Number(seed & 0xffffffffn), Number(seed >> 32n)];
}

/** The high word of a product of two 32-bit words. */
export function high(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  // None of these sums reaches 2^32.
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const other = (middle & 0xffff) + aLow * bHigh;
  return (aHigh * bHigh + (middle >>> 16) + (other >>> 16)) >>> 0;
}

/** The four words at a counter of four words, written to `out` from `at` on. */
export function philox(counter: readonly number[], key: Key, out: Uint32Array, at: number): void {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const h0 = high(c0, 0xd2511f53);
    const l0 = Math.imul(c0, 0xd2511f53);
    const h1 = high(c2, 0xcd9e8d57);
    const l1 = Math.imul(c2, 0xcd9e8d57);
    c0 = (h1 ^ c1 ^ k0) >>> 0;
    c1 = l1 >>> 0;
    c2 = (h0 ^ c3 ^ k1) >>> 0;
    c3 = l0 >>> 0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[at] = c0;
  out[at + 1] = c1;
  out[at + 2] = c2;
  out[at + 3] = c3;
}

/** Where words lie: everything of a counter but the block. */
export interface Address {
  /** 0 to 2^64 - 1. */
  readonly seed: bigint;
  /** Which picture of the seed, 0 to 2^32 - 1. */
  readonly image: number;
  /** Position of the component in the bundle. */
  readonly stage: number;
  /** Sampling step, or digit, 0 to 2^32 - 1. */
  readonly step: number;
}

/** The first `count` words at an address, `[count]`, rounded up to whole blocks of four. */
export function wordsAt(count: number, address: Address): Uint32Array {
  const blocks = Math.ceil(count / 4);
  const words = new Uint32Array(blocks * 4);
  const key = keyOf(address.seed);
  const counter = [0, address.step, address.stage, address.image];
  for (let block = 0; block < blocks; block++) {
    counter[0] = block;
    philox(counter, key, words, block * 4);
  }
  return words;
}
