// The time that one request has, and the caller's own signal, as one signal.

import { Cancelled, DeadlineExceeded } from "./errors.js";

/** Ends a request when its time is over or its caller gives up. */
export class Deadline {
  readonly begun = performance.now();
  private readonly controller = new AbortController();
  private readonly timer: ReturnType<typeof setTimeout>;
  private readonly onAbort = (): void => {
    this.controller.abort(new Cancelled("the caller gave up", { cause: this.callers?.reason }));
  };

  constructor(
    private readonly timeoutMs: number,
    private readonly callers?: AbortSignal,
  ) {
    const message = `the request was not done within ${timeoutMs / 1000} s`;
    this.timer = setTimeout(() => this.controller.abort(new DeadlineExceeded(message)), timeoutMs);
    callers?.addEventListener("abort", this.onAbort);
    if (callers?.aborted) this.onAbort();
  }

  /** Its reason is `Cancelled` or `DeadlineExceeded`. */
  get signal(): AbortSignal {
    return this.controller.signal;
  }
  /** Milliseconds since the request began. */
  elapsedMs(): number {
    return performance.now() - this.begun;
  }
  /** Milliseconds left, at least 1. */
  remainingMs(): number {
    return Math.max(1, Math.round(this.timeoutMs - this.elapsedMs()));
  }
  /** Nothing is waited for any more. */
  close(): void {
    clearTimeout(this.timer);
    this.callers?.removeEventListener("abort", this.onAbort);
  }
}
