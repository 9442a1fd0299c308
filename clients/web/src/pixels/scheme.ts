// How a stage divides a picture into passes. Knows positions and planes; no values, no networks.

import { type Plane, planesOf } from "./planes.js";

/** A neighbour as rows down and columns to the right. */
export type Offset = readonly [number, number];

/** What a manifest's field `scheme` holds. */
export interface PassScheme {
  readonly parent: "none" | "subsample" | "box";
  /** The group of every pixel of a square that repeats; -1 where the parent gives the pixel. */
  readonly order: { readonly period: number; readonly groups: readonly number[] };
  readonly guess: "zero" | "parent" | "cell";
  readonly planes: readonly number[];
  readonly channel_passes: "heads" | "passes";
  readonly parent_copies: readonly Offset[];
  readonly canvas_copies: readonly Offset[];
  readonly keep_mean: boolean;
}

/** Height and width. */
export interface Size {
  readonly height: number;
  readonly width: number;
}

/** One run of the body. */
export interface Pass {
  readonly index: number;
  readonly plane: Plane;
  /** Number of its first digit, counted over all planes. */
  readonly firstDigit: number;
  readonly channels: readonly number[];
  /** Its pixels as flat positions, rising. */
  readonly targets: Int32Array;
  /** Numbers of targets in the order in which they are decided. */
  readonly turns: Int32Array;
}

/** Rows or columns of the picture to one of the parent. */
export function cellFactor(size: Size, small: Size): number {
  return Math.floor(size.height / small.height);
}

/** The flat position in the parent of the cell that a pixel is in. */
export function cellOf(place: number, size: Size, small: Size): number {
  const [row, column] = [Math.floor(place / size.width), place % size.width];
  const down = Math.floor(row / cellFactor(size, small));
  return down * small.width + Math.floor(column / Math.floor(size.width / small.width));
}

function groupTargets(scheme: PassScheme, size: Size): Int32Array[] {
  const { period, groups } = scheme.order;
  const found: number[][] = Array.from({ length: Math.max(...groups) + 1 }, () => []);
  for (let place = 0; place < size.height * size.width; place++) {
    const row = Math.floor(place / size.width) % period;
    found[groups[row * period + (place % size.width) % period]]?.push(place);
  }
  return found.map((places) => Int32Array.from(places));
}

/** All targets in order; of a cell whose mean is kept one after another. */
function turnsOf(targets: Int32Array, size: Size, small: Size | null): Int32Array {
  const order = Array.from(targets, (_, at) => at);
  if (small === null) return Int32Array.from(order);
  const seen = new Map<number, number>();
  const rank = order.map((at) => {
    const cell = cellOf(targets[at], size, small);
    const before = seen.get(cell) ?? 0;
    seen.set(cell, before + 1);
    return before;
  });
  return Int32Array.from(order.sort((a, b) => rank[a] - rank[b] || a - b));
}

/** The passes of a picture: planes outermost, then groups, then perhaps channels. */
export function passesOf(scheme: PassScheme, size: Size, small: Size | null): Pass[] {
  const groups = groupTargets(scheme, size);
  const turns = groups.map((targets) => turnsOf(targets, size, scheme.keep_mean ? small : null));
  const channels = scheme.channel_passes === "heads" ? [[0, 1, 2]] : [[0], [1], [2]];
  const found: Pass[] = [];
  let digit = 0;
  for (const plane of planesOf(scheme.planes)) {
    for (const [group, targets] of groups.entries()) {
      for (const decided of channels) {
        found.push({ index: found.length, plane, firstDigit: digit, channels: decided, targets, turns: turns[group] });
      }
    }
    digit += plane.digitBits.length;
  }
  return found;
}

/** Values, the last one repeated up to `count`. */
export function filled(values: Int32Array, count: number): Int32Array {
  const found = new Int32Array(count).fill(values[values.length - 1]);
  found.set(values);
  return found;
}
