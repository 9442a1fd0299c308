// What only Node.js has: a bundle's folder, and a folder that keeps files between runs.

import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Source, Store } from "./bundle/bundle.js";

/** A bundle's folder on disk. */
export class FolderSource implements Source {
  constructor(private readonly folder: string) {}

  async read(name: string): Promise<Uint8Array> {
    return new Uint8Array(await readFile(join(this.folder, name)));
  }
}

/** A folder of files named by their sha256. */
export class FolderStore implements Store {
  constructor(private readonly folder: string) {}

  async get(sha256: string): Promise<Uint8Array | undefined> {
    try {
      return new Uint8Array(await readFile(join(this.folder, sha256)));
    } catch {
      return undefined;
    }
  }
  async put(sha256: string, bytes: Uint8Array): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    // Written whole or not at all: another process may read meanwhile.
    const part = join(this.folder, `.${createHash("sha256").update(`${process.pid}${Math.random()}`).digest("hex")}`);
    await writeFile(part, bytes);
    await rename(part, join(this.folder, sha256));
  }
}
