// A link on the way to a server: counts what comes through it, and breaks when told to.

import { createServer, Socket } from "node:net";

/** A link that is open. */
export interface Link {
  readonly url: string;
  /** Bytes that came from the server so far. */
  received(): number;
  /** Break the connections that are open; new ones are taken. */
  breakNow(): void;
  /** Break them and take no more. */
  close(): void;
}

/** Open a link to an address of HTTP. */
export async function openLink(target: string): Promise<Link> {
  const { hostname, port } = new URL(target);
  const open = new Set<Socket>();
  let count = 0;
  const server = createServer((near) => {
    const far = new Socket().connect(Number(port), hostname);
    far.on("data", (data) => (count += data.length));
    for (const [one, other] of [[near, far], [far, near]] as const) {
      open.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        open.delete(one);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port: own } = server.address() as { port: number };
  const breakNow = (): void => open.forEach((socket) => socket.destroy());
  const close = (): void => {
    server.close();
    breakNow();
  };
  return { url: `http://127.0.0.1:${own}`, received: () => count, breakNow, close };
}
