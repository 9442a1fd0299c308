// A picture in the making: of every value what is known of it, and the means that are kept.
// Parent, picture and one slot that stands for whatever is outside lie behind one another.

import type { Picture } from "../picture.js";
import { BITS, type Plane } from "./planes.js";
import { cellFactor, cellOf, type Offset, type PassScheme, type Size } from "./scheme.js";

const HIGHEST = 255;

/** The least and the largest of an interval. */
export type Interval = readonly [number, number];

/** One picture, filled pass by pass. */
export class Canvas {
  readonly small: Size | null;
  /** Pixels of the parent: the first slot of the picture. */
  readonly cells: number;
  /** The slot that stands for none. */
  readonly outside: number;
  /** Of each channel and slot the middle of what is known, 0 where nothing is. */
  readonly values: Uint8Array[];
  /** How many bits that is. */
  readonly decided: Uint8Array[];
  private readonly sums: { low: Int32Array[]; high: Int32Array[] } | null;

  constructor(
    readonly size: Size,
    readonly parent: Picture | null,
    private readonly scheme: PassScheme,
  ) {
    this.small = parent;
    this.cells = parent ? parent.width * parent.height : 0;
    this.outside = this.cells + size.width * size.height;
    this.values = [0, 1, 2].map(() => new Uint8Array(this.outside + 1));
    this.decided = [0, 1, 2].map(() => new Uint8Array(this.outside + 1));
    if (parent) this.takeParent(parent);
    this.sums = scheme.keep_mean && parent ? this.sumsOfCells() : null;
  }

  private takeParent(parent: Picture): void {
    for (let channel = 0; channel < 3; channel++) {
      for (let cell = 0; cell < this.cells; cell++) this.values[channel][cell] = parent.data[cell * 3 + channel];
      this.decided[channel].fill(BITS, 0, this.cells);
      if (this.scheme.parent === "subsample") this.giveCorners(parent, channel);
    }
  }
  private giveCorners(parent: Picture, channel: number): void {
    const down = Math.floor(this.size.height / parent.height);
    const across = Math.floor(this.size.width / parent.width);
    for (let cell = 0; cell < this.cells; cell++) {
      const row = Math.floor(cell / parent.width) * down;
      const slot = this.cells + row * this.size.width + (cell % parent.width) * across;
      this.values[channel][slot] = this.values[channel][cell];
      this.decided[channel][slot] = BITS;
    }
  }
  private sumsOfCells(): { low: Int32Array[]; high: Int32Array[] } {
    const none = (): Int32Array[] => [0, 1, 2].map(() => new Int32Array(this.cells));
    const found = { low: none(), high: none() };
    for (let channel = 0; channel < 3; channel++) {
      for (let slot = this.cells; slot < this.outside; slot++) {
        const cell = this.cellAt(slot - this.cells);
        const known = this.decided[channel][slot] > 0;
        found.low[channel][cell] += known ? this.values[channel][slot] : 0;
        found.high[channel][cell] += known ? this.values[channel][slot] : HIGHEST;
      }
    }
    return found;
  }
  private cellAt(place: number): number {
    return cellOf(place, this.size, this.small as Size);
  }
  /** Pixels of a cell. */
  private get area(): number {
    return cellFactor(this.size, this.small as Size) ** 2;
  }

  /** Whether so many bits of all channels are known at a slot. */
  isUsable(slot: number, bits: number): boolean {
    return this.decided[0][slot] >= bits && this.decided[1][slot] >= bits && this.decided[2][slot] >= bits;
  }
  /** Slots of what a pixel may be a copy of: the parent's neighbours, then the picture's. */
  candidates(place: number): Int32Array {
    const { parent_copies: above, canvas_copies: beside } = this.scheme;
    const found = new Int32Array(above.length + beside.length);
    above.forEach((offset, at) => (found[at] = neighbour(this.cellAt(place), offset, this.small as Size, 0, this.outside)));
    beside.forEach((offset, at) => {
      found[above.length + at] = neighbour(place, offset, this.size, this.cells, this.outside);
    });
    return found;
  }
  /** The guess of a value of a pixel. */
  guess(place: number, channel: number, bits: number): number {
    if (this.scheme.guess === "zero" || this.small === null) return 0;
    const cell = this.cellAt(place);
    return this.scheme.guess === "parent" ? this.values[channel][cell] : this.cellGuess(cell, channel, bits);
  }
  /** What the unknown pixels of a cell must be on average for its mean to be the parent's pixel. */
  private cellGuess(cell: number, channel: number, bits: number): number {
    const small = this.small as Size;
    const factor = cellFactor(this.size, small);
    const [top, first] = [Math.floor(cell / small.width) * factor, (cell % small.width) * factor];
    let [total, known] = [0, 0];
    for (let at = 0; at < factor * factor; at++) {
      const slot = this.cells + (top + Math.floor(at / factor)) * this.size.width + first + (at % factor);
      if (!this.isUsable(slot, bits)) continue;
      total += this.values[channel][slot];
      known += 1;
    }
    const left = Math.max(factor * factor - known, 1);
    const found = Math.floor((2 * (factor * factor * this.values[channel][cell] - total) + left) / (2 * left));
    return Math.min(Math.max(found, 0), HIGHEST);
  }
  /** What a value lies between before a plane of it is decided. */
  bounds(slot: number, channel: number, plane: Plane): Interval {
    if (plane.isFirst) return [0, HIGHEST];
    const above = 1 << (plane.bits + plane.below);
    const low = (this.values[channel][slot] - (above >> 1)) & 255;
    return [low, (low + above - 1) & 255];
  }
  /** The values with which the cell's mean can still be the parent's pixel; null where no means are kept. */
  allowed(place: number, channel: number, plane: Plane): Interval | null {
    if (this.sums === null) return null;
    const cell = this.cellAt(place);
    const [low, high] = this.bounds(this.cells + place, channel, plane);
    const least = this.values[channel][cell] * this.area - (this.area >> 1);
    const first = Math.max(least - this.sums.high[channel][cell] + high, low);
    const last = Math.min(least - this.sums.low[channel][cell] + (this.area - 1) + low, high);
    return [first & 255, last & 255];
  }
  /** Write a plane's bits of a value. */
  decide(place: number, channel: number, plane: Plane, part: number): void {
    const slot = this.cells + place;
    const [low, high] = this.bounds(slot, channel, plane);
    const now = ((part << plane.below) + (plane.isFirst ? 0 : low)) & 255;
    if (this.sums !== null) {
      const cell = this.cellAt(place);
      this.sums.low[channel][cell] += now - low;
      this.sums.high[channel][cell] += now + ((1 << plane.below) - 1) - high;
    }
    this.values[channel][slot] = now + ((1 << plane.below) >> 1);
    this.decided[channel][slot] = plane.decided;
  }
  /** The picture as it is: the middle of what is known, 0 where nothing is. */
  picture(): Picture {
    const { width, height } = this.size;
    const data = new Uint8Array(width * height * 3);
    for (let at = 0; at < data.length; at++) data[at] = this.values[at % 3][this.cells + Math.floor(at / 3)];
    return { width, height, data };
  }
  /** The picture's part of the values as `[3, height, width]` float32. */
  planar(): Float32Array {
    return joined(this.values.map((plane) => plane.subarray(this.cells, this.outside)));
  }
  /** The share of every value's bits that is decided, of so many channels. */
  known(channels: number): Float32Array {
    const found = joined(this.decided.slice(0, channels).map((plane) => plane.subarray(this.cells, this.outside)));
    return found.map((bits) => bits / BITS);
  }
}

function neighbour(place: number, offset: Offset, size: Size, first: number, outside: number): number {
  const [row, column] = [Math.floor(place / size.width) + offset[0], (place % size.width) + offset[1]];
  const isInside = row >= 0 && row < size.height && column >= 0 && column < size.width;
  return isInside ? first + row * size.width + column : outside;
}

function joined(planes: Uint8Array[]): Float32Array {
  const found = new Float32Array(planes.length * planes[0].length);
  planes.forEach((plane, at) => found.set(plane, at * plane.length));
  return found;
}
