// The weights of a value's symbol, digit by digit: the network's own choice or a copied candidate.
// See cascade/pixels/mixture.py for the formula; every number here is whole.

import type { Logits } from "./logits.js";
import type { Plane } from "./planes.js";
import { chosen, chosenWide, NEVER, weightsOf } from "./weights.js";

const DIGIT = 16;

/** How decisions are made of weights, in sixteenths. */
export interface Sharpness {
  readonly temperature16: number;
  readonly floor16: number;
}

/** One value to be decided. */
export interface Question {
  readonly plane: Plane;
  /** Of every candidate the symbol it would be; empty where nothing is ever copied. */
  readonly symbols: ArrayLike<number>;
  /** Whether it may be copied. */
  readonly match: ArrayLike<number>;
  /** First symbol that may be chosen, and how many more follow, wrapping around; null for all. */
  readonly allowed: readonly [start: number, width: number] | null;
  readonly sharpness: Sharpness;
  /** The word of each digit. */
  readonly words: readonly number[];
}

function has(question: Question, symbol: number): boolean {
  if (question.allowed === null) return true;
  const [start, width] = question.allowed;
  return ((symbol - start) & (question.plane.symbols - 1)) <= width;
}

function hasHigh(question: Question, digit: number): boolean {
  if (question.allowed === null) return true;
  if (question.plane.digitBits.length === 1) return has(question, digit);
  const first = digit * DIGIT;
  return has(question, first) || ((question.allowed[0] - first) & (question.plane.symbols - 1)) < DIGIT;
}

/** The weight of not copying, then of each candidate; 0 of what may not be copied. */
function copyWeights(question: Question, logits: Logits, at: number): number[] {
  const masked = logits.copying(at);
  for (let k = 0; k < question.symbols.length; k++) {
    if (!question.match[k] || !has(question, question.symbols[k])) masked[k + 1] = NEVER;
  }
  return weightsOf(masked, question.sharpness.temperature16);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** The symbol of value number `at` of a channel. */
export function decide(question: Question, logits: Logits, at: number): number {
  const { plane, sharpness, words, symbols } = question;
  const isWhole = plane.digitBits.length === 2;
  const own = weightsOf(logits.highDigit(at, 1 << plane.digitBits[0]), sharpness.temperature16);
  const copies = symbols.length ? copyWeights(question, logits, at) : [];
  const total = sum(own);
  let weights = own;
  if (symbols.length) {
    const copied = new Array<number>(own.length).fill(0);
    for (let k = 0; k < symbols.length; k++) copied[isWhole ? symbols[k] >> 4 : symbols[k]] += copies[k + 1];
    weights = own.map((weight, digit) => copied[digit] * total + weight * copies[0]);
  }
  if (question.allowed) weights = weights.map((weight, digit) => (hasHigh(question, digit) ? weight : 0));
  const high = chosen(weights, words[0], sharpness.floor16);
  return isWhole ? high * DIGIT + lowDigit(question, logits, { at, high, own, copies }) : high;
}

interface HighDigit {
  readonly at: number;
  readonly high: number;
  readonly own: readonly number[];
  readonly copies: readonly number[];
}

function lowDigit(question: Question, logits: Logits, { at, high, own, copies }: HighDigit): number {
  const { sharpness, words, symbols } = question;
  const plain = weightsOf(logits.lowDigit(at, high), sharpness.temperature16);
  const may = (digit: number): boolean => has(question, high * DIGIT + digit);
  if (!symbols.length) {
    return chosen(plain.map((weight, digit) => (may(digit) ? weight : 0)), words[1], sharpness.floor16);
  }
  const copied = new Array<number>(DIGIT).fill(0);
  for (let k = 0; k < symbols.length; k++) {
    if (symbols[k] >> 4 === high) copied[symbols[k] & (DIGIT - 1)] += copies[k + 1];
  }
  // Products of three: beyond 2^53, below 2^64.
  const share = BigInt(copies[0] * own[high]);
  const total = BigInt(sum(own) * sum(plain));
  const weights = plain.map((weight, digit) => {
    return may(digit) ? BigInt(copied[digit]) * total + BigInt(weight) * share : 0n;
  });
  return chosenWide(weights, words[1], sharpness.floor16);
}
