// Rounding of one number: to float32, to float16, to the nearest whole number. Knows no arrays of pictures.

const view = new DataView(new ArrayBuffer(8));

/** The nearest whole number, ties to even, of magnitudes below 2^51. */
export function roundHalfEven(value: number): number {
  // Adding 1.5 * 2^52 leaves no bit below 1, and the processor rounds ties to even.
  return value + 6755399441055744 - 6755399441055744;
}

/** `2 ** power` without a library's rounding; 0 or a subnormal number below -1022. */
export function powerOfTwo(power: number): number {
  if (power < -1022 || power > 1023) {
    const half = power >> 1;
    return Math.abs(power) > 2200 ? (power < 0 ? 0 : Infinity) : powerOfTwo(half) * powerOfTwo(power - half);
  }
  view.setUint32(0, ((power + 1023) << 20) >>> 0);
  view.setUint32(4, 0);
  return view.getFloat64(0);
}

/** A positive number as `[mantissa, power]` with a mantissa from 0.5 to 1. */
export function splitPower(value: number): [number, number] {
  const isSubnormal = value < 2.2250738585072014e-308;
  view.setFloat64(0, isSubnormal ? value * 18014398509481984 : value);
  const high = view.getUint32(0);
  const power = ((high >>> 20) & 0x7ff) - 1022;
  view.setUint32(0, (high & 0x800fffff) | (1022 << 20));
  return [view.getFloat64(0), isSubnormal ? power - 54 : power];
}

/** The bits of the float16 nearest to a float32, ties to even. */
export function float16Bits(value: number): number {
  view.setFloat32(0, value);
  const bits = view.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal: a multiple of 2^-24, which a float64 rounds exactly.
    view.setUint32(0, magnitude);
    return sign | roundHalfEven(view.getFloat32(0) * 16777216);
  }
  const rest = magnitude - 0x38000000;
  return sign | ((rest + 0xfff + ((rest >>> 13) & 1)) >>> 13);
}

/** The float32 that a float16's bits stand for. */
export function float16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const power = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (power === 0) return sign * fraction * 5.960464477539063e-8;
  if (power === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * powerOfTwo(power - 15);
}
