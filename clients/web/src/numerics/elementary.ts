// exp, expm1, log, log1p, sin and cos as docs/reference/numerics.md defines them, in float64.
// Every machine arrives at the same bits, which Math.exp and its like do not promise.

import { powerOfTwo, roundHalfEven, splitPower } from "./rounding.js";

const LN2_HIGH = 0.6931471803691238; // 0x1.62e42fee00000p-1
const LN2_LOW = 1.9082149292705877e-10; // 0x1.a39ef35793c76p-33
const HALF_PI_HIGH = 1.5707963267948966; // 0x1.921fb54442d18p+0
const HALF_PI_LOW = 6.123233995736766e-17; // 0x1.1a62633145c07p-54
const SQRT_HALF = 0.7071067811865476; // 0x1.6a09e667f3bcdp-1

function factorial(n: number): number {
  let product = 1;
  for (let factor = 2; factor <= n; factor++) product *= factor;
  return product;
}

function terms(count: number, term: (n: number) => number): number[] {
  return Array.from({ length: count }, (_, n) => term(n));
}

const EXP = terms(14, (n) => 1 / factorial(n + 1));
const LOG = terms(12, (n) => 1 / (2 * n + 1));
const SIN = terms(9, (n) => (n % 2 ? -1 : 1) / factorial(2 * n + 1));
const COS = terms(10, (n) => (n % 2 ? -1 : 1) / factorial(2 * n));

function horner(coefficients: readonly number[], x: number): number {
  let total = coefficients[coefficients.length - 1] * x;
  for (let at = coefficients.length - 2; at > 0; at--) total = (total + coefficients[at]) * x;
  return total + coefficients[0];
}

function reduced(x: number): [number, number] {
  const clipped = Math.min(Math.max(x, -1100), 1100);
  const twos = roundHalfEven(clipped / LN2_HIGH);
  return [clipped - twos * LN2_HIGH - twos * LN2_LOW, twos];
}

/** `e ** x`. */
export function exp(x: number): number {
  const [rest, twos] = reduced(x);
  const half = twos >> 1;
  return (1 + rest * horner(EXP, rest)) * powerOfTwo(half) * powerOfTwo(twos - half);
}

/** `e ** x - 1`. */
export function expm1(x: number): number {
  const [rest, twos] = reduced(x);
  const power = powerOfTwo(twos);
  return power * (rest * horner(EXP, rest)) + (power - 1);
}

function logNear1(x: number): number {
  const part = x / (2 + x);
  return 2 * part * horner(LOG, part * part);
}

/** The natural logarithm of a number from 0. */
export function log(x: number): number {
  if (x === 0) return -Infinity;
  let [mantissa, twos] = splitPower(x);
  if (mantissa < SQRT_HALF) [mantissa, twos] = [mantissa * 2, twos - 1];
  return twos * LN2_HIGH + (logNear1(mantissa - 1) + twos * LN2_LOW);
}

/** `log(1 + x)`. */
export function log1p(x: number): number {
  return SQRT_HALF - 1 < x && x < 1 / SQRT_HALF - 1 ? logNear1(x) : log(1 + x);
}

/** The sine of 0 to half of pi. */
export function sin(x: number): number {
  const other = HALF_PI_HIGH - x + HALF_PI_LOW;
  return x < other ? x * horner(SIN, x * x) : horner(COS, other * other);
}

/** The cosine of 0 to half of pi. */
export function cos(x: number): number {
  const other = HALF_PI_HIGH - x + HALF_PI_LOW;
  return x < other ? horner(COS, x * x) : other * horner(SIN, other * other);
}
