// `cascade web` as a child of a test: a server, Envoy and the page's files on one address.

import { type ChildProcess, spawn } from "node:child_process";
import { BUNDLES, PYTHON } from "./reference.js";

/** A running `cascade web`, and what its server wrote. */
export interface Served {
  readonly url: string;
  readonly child: ChildProcess;
  /** Lines of the server's log so far. */
  readonly log: string[];
  /** Until a line of the log has these words. */
  logged(words: string): Promise<string>;
  close(): Promise<void>;
}

/** Start it; resolves when it prints its address. */
export async function serve(page: string, bundle = "emoji-1", listen = "127.0.0.1:0"): Promise<Served> {
  const words = ["-m", "cascade", "web", "--bundle", bundle.includes("/") ? bundle : `${BUNDLES}/${bundle}`, "--listen", listen, "--page", page];
  const child = spawn(PYTHON, words, { stdio: ["ignore", "pipe", "pipe"] });
  const log: string[] = [];
  child.stderr.on("data", (data: Buffer) => log.push(...String(data).split("\n").filter(Boolean)));
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on("data", (data: Buffer) => {
      const found = /http:\/\/\S+/.exec(String(data));
      if (found) resolve(found[0]);
      else log.push(...String(data).split("\n").filter(Boolean));
    });
    child.on("exit", (code) => reject(new Error(`cascade web ended with ${code}: ${log.join("\n")}`)));
  });
  const logged = async (text: string): Promise<string> => {
    for (;;) {
      const line = log.find((entry) => entry.includes(text));
      if (line) return line;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      child.on("exit", () => resolve());
      child.kill("SIGTERM");
      if (child.exitCode !== null) resolve();
    });
  return { url, child, log, logged, close };
}
