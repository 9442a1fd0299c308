// From logits to a choice in whole numbers: a table of weights, exact sums, one 32-bit word.

import { exp } from "../numerics/elementary.js";
import { high } from "../numerics/philox.js";
import { roundHalfEven } from "../numerics/rounding.js";

/** A logit below all that heads may answer: of what may not be chosen. */
export const NEVER = -(1 << 24);
/** Weights, temperatures and floors are counted in sixteenths. */
export const SIXTEENTHS = 16;

const LOGIT_UNIT = 16;
const FARTHEST = 1 << 16;

/** Weights by distance from the largest logit, `[189]`, from 65,536 down to 1. */
export function weightTable(): number[] {
  return Array.from({ length: 189 }, (_, distance) => roundHalfEven(65536 * exp(-(distance / LOGIT_UNIT))));
}

const tables = new Map<number, Uint32Array>();

/** The weights by the distance before the temperature; beyond the last a choice is ruled out. */
function tableAt(temperature16: number): Uint32Array {
  const known = tables.get(temperature16);
  if (known) return known;
  const weights = weightTable();
  const made = Uint32Array.from({ length: FARTHEST + 1 }, (_, distance) => {
    return weights[Math.min(Math.floor((distance * SIXTEENTHS) / temperature16), weights.length - 1)];
  });
  tables.set(temperature16, made);
  return made;
}

/** The weight of every choice, 0 to 65,536, of whole logits. */
export function weightsOf(logits: ArrayLike<number>, temperature16: number): number[] {
  const table = tableAt(temperature16);
  let largest = logits[0];
  for (let at = 1; at < logits.length; at++) largest = Math.max(largest, logits[at]);
  return Array.from(logits, (logit) => table[largest - logit] ?? 0);
}

/** The first choice whose running sum exceeds the word's share of the total; sums below 2^53. */
export function chosen(weights: readonly number[], word: number, floor16: number): number {
  const least = Math.floor(Math.max(...weights) / 16) * floor16;
  const kept = weights.map((weight) => (weight >= least ? weight : 0));
  const total = kept.reduce((sum, weight) => sum + weight, 0);
  const share = word * Math.floor(total / 4294967296) + high(word, total >>> 0);
  return place(kept, share, 0);
}

/** The same of sums below 2^64. */
export function chosenWide(weights: readonly bigint[], word: number, floor16: number): number {
  const largest = weights.reduce((most, weight) => (weight > most ? weight : most), 0n);
  const least = (largest >> 4n) * BigInt(floor16);
  const kept = weights.map((weight) => (weight >= least ? weight : 0n));
  const total = kept.reduce((sum, weight) => sum + weight, 0n);
  return place(kept, (BigInt(word) * total) >> 32n, 0n);
}

function place<T extends number | bigint>(weights: readonly T[], share: T, zero: T): number {
  let running = zero as number;
  for (let at = 0; at < weights.length; at++) {
    running += weights[at] as number;
    if (running > (share as number)) return at;
  }
  return weights.length;
}
