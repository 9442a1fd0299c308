// Sums over float32 arrays whose rounding is part of the contract.

const round = Math.fround;

/** Factors before arrays of one length. */
export type Term = readonly [weight: number, values: Float32Array];

/** Every weight rounded to float32, every product rounded, then added from left to right and rounded. */
export function weightedSum(first: Term, ...others: Term[]): Float32Array {
  const weight = round(first[0]);
  const out = new Float32Array(first[1].length);
  for (let at = 0; at < out.length; at++) out[at] = weight * first[1][at];
  for (const [factor, values] of others) {
    const other = round(factor);
    for (let at = 0; at < out.length; at++) out[at] += round(other * values[at]);
  }
  return out;
}

/** Whether an array holds neither NaN nor infinity. */
export function isFinite32(values: Float32Array): boolean {
  // Of finite numbers the sum of differences is 0; any other makes it NaN.
  let rest = 0;
  for (const value of values) rest += value - value;
  return rest === 0;
}
