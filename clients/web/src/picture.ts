// Pictures of 8 bits, and what networks see of them.

import { roundHalfEven } from "./numerics/rounding.js";

const round = Math.fround;

/** A picture of three channels: `data` is `[height, width, 3]`, 0 to 255. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** `[3, height, width]` float32 of -1 to 1. */
export function toNetwork(picture: Picture): Float32Array {
  const pixels = picture.width * picture.height;
  const found = new Float32Array(pixels * 3);
  for (let at = 0; at < pixels; at++) {
    for (let channel = 0; channel < 3; channel++) {
      found[channel * pixels + at] = round(picture.data[at * 3 + channel] / 127.5) - 1;
    }
  }
  return found;
}

/** A level as a network sees it, -1 to 1. */
export const valueOf = (level: number): number => round(round(level / 127.5) - 1);

/** The level of a network's value: the nearest, ties to even, 0 to 255. */
export function levelOf(value: number): number {
  return Math.min(Math.max(roundHalfEven(round(round(value + 1) * 127.5)), 0), 255);
}

/** The picture of values `[3, height, width]`. */
export function fromNetwork(values: Float32Array, width: number, height: number): Picture {
  const pixels = width * height;
  const data = new Uint8Array(pixels * 3);
  for (let at = 0; at < pixels; at++) {
    for (let channel = 0; channel < 3; channel++) {
      data[at * 3 + channel] = levelOf(values[channel * pixels + at]);
    }
  }
  return { width, height, data };
}
