// A picture of one stage walked through pass by pass: what networks are asked, what is decided.

import type { Picture } from "../picture.js";
import { Canvas } from "./canvas.js";
import type { Logits } from "./logits.js";
import { decide, type Sharpness } from "./mixture.js";
import { filled, type Pass, passesOf, type PassScheme, type Size } from "./scheme.js";

/** What is fixed of a group before its first channel is decided. */
interface Surroundings {
  /** `[n * 3]`. */
  readonly guess: Uint8Array;
  /** Symbols of the candidates, `[3][n * K]`. */
  readonly symbols: Uint8Array[];
  /** Whether each may still be copied, `[n * K]`. */
  readonly match: Uint8Array;
}

/** The body's inputs that are of pictures. */
export interface BodyInputs {
  readonly canvas: Float32Array;
  readonly known: Float32Array;
  readonly targets: Int32Array;
}

/** One picture in the making: `begin` a pass, then `decide` its channels. */
export class PictureWalk {
  readonly canvas: Canvas;
  readonly passes: Pass[];
  /** Values of the largest pass: what graphs have room for. */
  readonly most: number;
  readonly candidates: number;
  private now: Pass;
  private around: Surroundings;
  private readonly earlier: Int32Array;

  constructor(
    readonly scheme: PassScheme,
    readonly size: Size,
    parent: Picture | null,
  ) {
    this.canvas = new Canvas(size, parent, scheme);
    this.passes = passesOf(scheme, size, this.canvas.small);
    this.most = Math.max(...this.passes.map((pass) => pass.targets.length));
    this.candidates = scheme.parent_copies.length + scheme.canvas_copies.length;
    this.now = this.passes[0];
    this.around = { guess: new Uint8Array(0), symbols: [], match: new Uint8Array(0) };
    this.earlier = new Int32Array(this.most * 2);
  }

  /** The body's inputs of a pass; passes are begun in order. */
  begin(pass: Pass): BodyInputs {
    this.now = pass;
    // Channels by passes: the pixel's earlier channels must not change guess or candidates.
    if (pass.channels[0] === 0) {
      this.around = this.lookAround(pass);
      this.earlier.fill(pass.plane.symbols);
    }
    return {
      canvas: this.canvas.planar(),
      known: this.canvas.known(this.scheme.channel_passes === "passes" ? 3 : 1),
      targets: filled(pass.targets, this.most),
    };
  }

  private lookAround(pass: Pass): Surroundings {
    const [n, k] = [pass.targets.length, this.candidates];
    const guess = new Uint8Array(n * 3);
    const match = new Uint8Array(n * k);
    const symbols = [0, 1, 2].map(() => new Uint8Array(n * k));
    pass.targets.forEach((place, at) => {
      const slots = this.canvas.candidates(place);
      slots.forEach((slot, c) => (match[at * k + c] = this.canvas.isUsable(slot, pass.plane.decided) ? 1 : 0));
      for (let channel = 0; channel < 3; channel++) {
        const [low, high] = this.canvas.bounds(this.canvas.cells + place, channel, pass.plane);
        const found = this.canvas.guess(place, channel, pass.plane.decided);
        guess[at * 3 + channel] = Math.min(Math.max(found, low), high);
        slots.forEach((slot, c) => {
          const value = this.canvas.values[channel][slot];
          // Bits of earlier planes are decided: nothing that has others can be copied.
          if (value < low || value > high) match[at * k + c] = 0;
          symbols[channel][at * k + c] = pass.plane.symbolOf(value, guess[at * 3 + channel]);
        });
      }
    });
    return { guess, symbols, match };
  }

  /** The heads' input `earlier`, `[most, 2]`. */
  earlierSymbols(): Int32Array {
    return this.earlier.slice();
  }
  /** The heads' input `match`, `[most, K]`. */
  matches(): Float32Array {
    const k = this.candidates;
    const found = new Float32Array(this.most * k);
    found.set(this.around.match);
    const last = this.around.match.subarray(-k || this.around.match.length);
    for (let at = this.now.targets.length; at < this.most; at++) found.set(last, at * k);
    return found;
  }

  /** Decide a channel of the pass by the heads' answers and the words of every digit. */
  decide(channel: number, logits: Logits, words: readonly Uint32Array[], sharpness: Sharpness): void {
    const { plane, targets, firstDigit } = this.now;
    const decided = new Int32Array(targets.length);
    for (const at of this.now.turns) {
      const value = targets[at] * 3 + channel;
      const guess = this.around.guess[at * 3 + channel];
      const symbol = decide(
        {
          plane,
          ...this.copiesOf(at, channel),
          allowed: this.allowed(at, channel, guess),
          sharpness,
          words: plane.digitBits.map((_, digit) => words[firstDigit + digit][value]),
        },
        logits,
        at,
      );
      decided[at] = symbol;
      this.canvas.decide(targets[at], channel, plane, plane.partOf(symbol, guess));
    }
    if (channel < 2) this.remember(channel, decided);
  }
  private copiesOf(at: number, channel: number): { symbols: Uint8Array; match: Uint8Array } {
    const [from, to] = [at * this.candidates, (at + 1) * this.candidates];
    return { symbols: this.around.symbols[channel]?.subarray(from, to), match: this.around.match.subarray(from, to) };
  }
  private allowed(at: number, channel: number, guess: number): readonly [number, number] | null {
    const { plane, targets } = this.now;
    const found = this.canvas.allowed(targets[at], channel, plane);
    if (found === null) return null;
    return [plane.symbolOf(found[0], guess), (plane.part(found[1]) - plane.part(found[0])) & 255];
  }
  /** Later channels copy only what the earlier ones agree with. */
  private remember(channel: number, decided: Int32Array): void {
    const all = filled(decided, this.most);
    all.forEach((symbol, at) => (this.earlier[at * 2 + channel] = symbol));
    const symbols = this.around.symbols[channel];
    for (let at = 0; at < this.around.match.length; at++) {
      if (symbols[at] !== decided[Math.floor(at / this.candidates)]) this.around.match[at] = 0;
    }
  }
}
