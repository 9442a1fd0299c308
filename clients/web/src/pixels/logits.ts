// What heads answered, as whole numbers in sixteenths of a nat: checked, and guided.

import { StageError } from "../errors.js";
import { roundHalfEven } from "../numerics/rounding.js";

const LARGEST = 1 << 15;
const DIGIT = 16;

/** The heads' outputs of one row: `[n, choices]` each. */
export interface Answers {
  readonly high: Float32Array;
  readonly low?: Float32Array;
  readonly copy?: Float32Array;
}

/** Answers for the values of one channel; where guided, those without the text beside them. */
export class Logits {
  constructor(
    private readonly count: number,
    private readonly answers: Answers,
    private readonly arithmetic: "exact" | "float",
    private readonly guidance: { without: Answers; weight16: number } | null,
  ) {}

  /** Of the high digit of value `at`. */
  highDigit(at: number, choices: number): Float32Array {
    const width = this.answers.high.length / this.count;
    return this.whole("high", at * width, choices);
  }
  /** Of the low digit under a high one. */
  lowDigit(at: number, high: number): Float32Array {
    return this.whole("low", (at * DIGIT + high) * DIGIT, DIGIT);
  }
  /** Of not copying, then of each candidate: a new array. */
  copying(at: number): Float32Array {
    const width = (this.answers.copy?.length ?? 0) / this.count;
    return this.whole("copy", at * width, width);
  }
  private whole(name: keyof Answers, first: number, choices: number): Float32Array {
    const found = this.checked(this.answers[name], first, choices);
    if (this.guidance === null) return found;
    const { without, weight16 } = this.guidance;
    const other = this.checked(without[name], first, choices);
    return found.map((logit, at) => other[at] + Math.floor(((logit - other[at]) * weight16) / 16));
  }
  private checked(values: Float32Array | undefined, first: number, choices: number): Float32Array {
    if (values === undefined) throw new StageError("heads: an output is missing that the stage needs");
    const found = values.slice(first, first + choices);
    for (let at = 0; at < choices; at++) {
      const whole = roundHalfEven(found[at]);
      const isWhole = this.arithmetic === "float" || found[at] === whole;
      // Written so that NaN is refused too.
      if (!(isWhole && whole >= -LARGEST && whole <= LARGEST)) {
        throw new StageError(`heads: expected whole logits of -${LARGEST} to ${LARGEST}, got ${found[at]}; use fp32`);
      }
      found[at] = whole;
    }
    return found;
  }
}
