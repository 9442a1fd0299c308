// Bit planes: which bits of a value a pass decides, and the symbols that stand for them.

/** Bits of a value. */
export const BITS = 8;
const CENTRE = 8;

/** Some bits of every value. */
export class Plane {
  /** How many symbols there are; this number itself stands for "not decided yet". */
  readonly symbols: number;
  /** Bits of each digit of a symbol, the high one first. */
  readonly digitBits: readonly number[];
  /** Whether nothing of a value is decided before it. */
  readonly isFirst: boolean;
  /** Bits that are decided after it. */
  readonly decided: number;

  constructor(
    readonly bits: number,
    readonly below: number,
  ) {
    this.symbols = 1 << bits;
    this.digitBits = bits === BITS ? [4, 4] : [bits];
    this.isFirst = bits + below === BITS;
    this.decided = BITS - below;
  }
  /** The bits of this plane, as a number from 0. */
  part(value: number): number {
    return (value >> this.below) & (this.symbols - 1);
  }
  /** The symbol of a value against a guess. */
  symbolOf(value: number, guess: number): number {
    if (this.bits === BITS) return (value - guess + CENTRE) & 255;
    return (this.part(value) - this.part(guess)) & (this.symbols - 1);
  }
  /** The bits that a symbol stands for; undoes `symbolOf`. */
  partOf(symbol: number, guess: number): number {
    if (this.bits === BITS) return (symbol + guess - CENTRE) & 255;
    return (this.part(guess) + symbol) & (this.symbols - 1);
  }
}

/** The planes of a manifest, the top one first. */
export function planesOf(bits: readonly number[]): Plane[] {
  let below = BITS;
  return bits.map((count) => new Plane(count, (below -= count)));
}
