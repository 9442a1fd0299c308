// Whether to try a call again, and after which pause: exponential backoff with jitter.

import { type CascadeError, QuotaExceeded, ServerBusy, TransportError } from "../errors.js";

/** Breaks in the middle of one request after which it is given up. */
export const MAX_RESUMES = 8;

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;
const JITTER = 0.2;

/** The attempts at one call. */
export class Attempts {
  private pauseMs = FIRST_PAUSE_MS;
  private readonly begun = performance.now();

  /** A server that is not there is asked again for so long; one without room until the caller gives up. */
  constructor(private readonly patienceMs: number) {}

  /** Milliseconds to the next attempt; raises the error where there is none. */
  pauseAfter(error: CascadeError): number {
    const isFull = error instanceof ServerBusy || error instanceof QuotaExceeded;
    const isPatient = performance.now() - this.begun + this.pauseMs <= this.patienceMs;
    if (!isFull && !(error instanceof TransportError && isPatient)) throw error;
    const pause = Math.max(this.pauseMs * (1 + JITTER * (2 * Math.random() - 1)), (error.retryAfterS ?? 0) * 1000);
    this.pauseMs = Math.min(this.pauseMs * 2, LONGEST_PAUSE_MS);
    return pause;
  }
}

/** A pause that an abort cuts short, raising its reason. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(finish, ms);
    function finish(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    }
    signal.addEventListener("abort", finish);
    if (signal.aborted) finish();
  });
}
