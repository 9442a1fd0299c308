// Standard normal noise: every value a function of (seed, picture, stage, step, position).

import { log } from "./elementary.js";
import { type Address, wordsAt } from "./philox.js";

/** The step of the noise that a run starts from. */
export const START = 0xffffffff;
/** The step of the noise that a smaller picture is augmented with. */
export const AUGMENTATION = 0xfffffffe;

// Coefficients of AS 241, PPND16 (Wichura 1988), the highest power first.
const CENTRE = [
  [2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
    13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608],
  [5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
    5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1],
];
const MIDDLE = [
  [7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
    3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734],
  [1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
    0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1],
];
const TAIL = [
  [2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
    0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772],
  [2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
    0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1],
];

function quotient([above, below]: number[][], x: number): number {
  const value = (terms: number[]): number => terms.reduce((total, term) => total * x + term);
  return value(above) / value(below);
}

/** The quantile of a probability of at least a half, to better than 2^-40. */
function upperQuantile(probability: number): number {
  const distance = probability - 0.5;
  if (distance <= 0.425) return distance * quotient(CENTRE, 0.180625 - distance * distance);
  const root = Math.sqrt(-log(1 - probability));
  return root <= 5 ? quotient(MIDDLE, root - 1.6) : quotient(TAIL, root - 5);
}

let table: Float32Array | undefined;

/** The quantile of `(u + 0.5) / 65536` for every 16-bit number `u`, `[65536]`. Not to be written to. */
export function normalTable(): Float32Array {
  if (table === undefined) {
    table = new Float32Array(65536);
    for (let u = 32768; u < 65536; u++) {
      table[u] = upperQuantile((u + 0.5) / 65536);
      table[65535 - u] = -table[u];
    }
  }
  return table;
}

/** The first `count` normals at an address, `[count]`, to be shaped in C order. */
export function normals(count: number, address: Address): Float32Array {
  const values = normalTable();
  const words = wordsAt(Math.ceil(count / 2), address);
  const found = new Float32Array(count);
  for (let at = 0; at < count; at++) {
    const word = words[at >> 1];
    found[at] = values[at & 1 ? word >>> 16 : word & 0xffff];
  }
  return found;
}
