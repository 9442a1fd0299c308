// A bundle, file by file: fetched from a source when first needed, checked by its sha256, kept by it.

import { ManifestError } from "../errors.js";
import { bundleId, type ComponentSpec, type FileEntry, type Manifest, readManifest, sha256Hex } from "./manifest.js";

/** Where the bytes of a bundle's files come from. */
export interface Source {
  read(name: string, signal?: AbortSignal): Promise<Uint8Array>;
}

/** Where files are kept between visits, by their sha256. */
export interface Store {
  get(sha256: string): Promise<Uint8Array | undefined>;
  put(sha256: string, bytes: Uint8Array): Promise<void>;
}

/** A store that forgets everything at the end of the process. */
export class MemoryStore implements Store {
  private readonly files = new Map<string, Uint8Array>();

  async get(sha256: string): Promise<Uint8Array | undefined> {
    return this.files.get(sha256);
  }
  async put(sha256: string, bytes: Uint8Array): Promise<void> {
    this.files.set(sha256, bytes);
  }
}

/** The browser's Cache API: kept until the user or the browser deletes the site's data. */
export class CacheStore implements Store {
  constructor(private readonly name = "edge-cascade-files") {}

  async get(sha256: string): Promise<Uint8Array | undefined> {
    const cache = await caches.open(this.name);
    const found = await cache.match(`/by-sha256/${sha256}`);
    return found && new Uint8Array(await found.arrayBuffer());
  }
  async put(sha256: string, bytes: Uint8Array): Promise<void> {
    const cache = await caches.open(this.name);
    await cache.put(`/by-sha256/${sha256}`, new Response(bytes as BodyInit));
  }
}

/** Files of a folder behind an absolute URL that ends in `/`. */
export class UrlSource implements Source {
  constructor(private readonly base: string | URL) {}

  async read(name: string, signal?: AbortSignal): Promise<Uint8Array> {
    const response = await fetch(new URL(name, this.base), { signal });
    if (!response.ok) throw new ManifestError(`${name}: the file server answered ${response.status}`, { field: name });
    return new Uint8Array(await response.arrayBuffer());
  }
}

/** How much of a bundle was taken from its source, and how much from the store. */
export interface Traffic {
  fetchedBytes: number;
  storedBytes: number;
}

/** An opened bundle: its manifest is read, no other file is yet. */
export class Bundle {
  readonly traffic: Traffic = { fetchedBytes: 0, storedBytes: 0 };

  private constructor(
    readonly manifest: Manifest,
    readonly id: string,
    private readonly source: Source,
    private readonly store: Store,
  ) {}

  /** Read the manifest. */
  static async open(source: Source, store: Store = new MemoryStore(), signal?: AbortSignal): Promise<Bundle> {
    const bytes = await source.read("manifest.json", signal);
    const bundle = new Bundle(readManifest(bytes), await bundleId(bytes), source, store);
    bundle.traffic.fetchedBytes += bytes.length;
    return bundle;
  }

  get components(): readonly ComponentSpec[] {
    return this.manifest.components;
  }

  /** The bytes of a listed file, checked against the manifest. */
  async file(name: string, signal?: AbortSignal): Promise<Uint8Array> {
    const entry = this.manifest.files.find((file) => file.name === name);
    if (entry === undefined) throw new ManifestError(`${name}: the manifest lists no such file`, { field: name });
    const kept = await this.store.get(entry.sha256);
    if (kept !== undefined && (await isWhole(kept, entry))) {
      this.traffic.storedBytes += kept.length;
      return kept;
    }
    const fetched = await this.source.read(name, signal);
    this.traffic.fetchedBytes += fetched.length;
    if (!(await isWhole(fetched, entry))) {
      const message = `${name}: expected ${entry.size_bytes} bytes of sha256 ${entry.sha256}, got ${fetched.length} others`;
      throw new ManifestError(message, { field: name });
    }
    await this.store.put(entry.sha256, fetched);
    return fetched;
  }
}

async function isWhole(bytes: Uint8Array, entry: FileEntry): Promise<boolean> {
  return bytes.length === entry.size_bytes && (await sha256Hex(bytes)) === entry.sha256;
}
