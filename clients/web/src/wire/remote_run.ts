// One run on a server: sent, streamed, and sent again with the same id where the connection breaks.

import { Cancelled, CascadeError, TransportError } from "../errors.js";
import type { GenerateResponse } from "./gen/protos/cascade/v1/cascade_pb.js";
import type { ServerLink } from "./link.js";
import { type Call, generateMessage } from "./messages.js";
import { Attempts, MAX_RESUMES, sleep } from "./retry.js";

/** What the server sends, and the breaks between. */
export type RemoteEvent = GenerateResponse["event"] | { readonly case: "resumed"; readonly value: string };

/** How long a run may take, and how long a server that is not there is asked again. */
export interface Limits {
  readonly signal: AbortSignal;
  /** Milliseconds left for everything. */
  remainingMs(): number;
  readonly patienceMs: number;
}

/** Every event of a call, up to and with `done`. To stop iterating is to end the run on the server too. */
export async function* remoteRun(link: ServerLink, call: Call, limits: Limits): AsyncGenerator<RemoteEvent> {
  const message = generateMessage(call);
  let isOver = false;
  let held = 0;
  let breaks = 0;
  try {
    let attempts = new Attempts(limits.patienceMs);
    while (!isOver) {
      let isTaken = false;
      try {
        message.resultsHeld = held;
        const options = { signal: limits.signal, timeoutMs: limits.remainingMs() };
        for await (const event of link.generate(message, options)) {
          // After a break the server accepts once more; the caller has been told already.
          if (!(breaks && event.case === "accepted")) yield event;
          isTaken = true;
          if (event.case === "stageResult") held += 1;
          isOver ||= event.case === "done";
        }
        if (!isOver) throw new TransportError("the server ended the call before it was done");
      } catch (failure) {
        const error = failure instanceof CascadeError ? failure : new TransportError(String(failure), { cause: failure });
        if (limits.signal.aborted) throw limits.signal.reason;
        if (isTaken && error instanceof TransportError && call.lingerSeconds > 0 && ++breaks <= MAX_RESUMES) {
          attempts = new Attempts(limits.patienceMs);
          yield { case: "resumed", value: error.message };
        } else if (isTaken) throw error;
        await sleep(attempts.pauseAfter(error), limits.signal);
      }
    }
  } catch (error) {
    // Any other error of the server is its last word.
    isOver = error instanceof CascadeError && !(error instanceof TransportError || error instanceof Cancelled);
    throw error;
  } finally {
    if (!isOver) link.cancel(call.requestId);
  }
}
