// Lengths that texts are filled up to: the last bits of a network's sums depend on them.

const LENGTHS = [8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];

/** The length at which a text of so many tokens is shown to a network. */
export function bucketLength(tokens: number): number {
  return LENGTHS.find((length) => length >= tokens) ?? tokens;
}
