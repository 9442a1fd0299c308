// Keeps the page's own files, so that a later visit needs no network. Networks are kept by the worker.

declare const FILES: string[];
declare const LATER: string[];
declare const VERSION: string;

const scope = self as unknown as ServiceWorkerGlobalScope;
const SHELL = `edge-cascade-page-${VERSION}`;
const MANIFEST = "edge-cascade-manifest";
const MANIFEST_PATH = "/bundle/manifest.json";

scope.addEventListener("install", (event) => {
  event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(FILES)));
  // The page that installs this worker has read the manifest before there was one to keep it.
  event.waitUntil(caches.open(MANIFEST).then((cache) => cache.add(MANIFEST_PATH)));
  scope.skipWaiting();
});

scope.addEventListener("activate", (event) => {
  const old = (names: string[]): string[] => names.filter((name) => name.startsWith("edge-cascade-page-") && name !== SHELL);
  event.waitUntil(caches.keys().then((names) => Promise.all(old(names).map((name) => caches.delete(name)))));
  event.waitUntil(scope.clients.claim());
});

/** The manifest decides what is new, so that it is asked for; without a network the last one counts. */
async function manifest(request: Request): Promise<Response> {
  const cache = await caches.open(MANIFEST);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request);
    if (kept) return kept;
    throw error;
  }
}

/** A file that only some visitors need: kept when the first of them asks. */
async function later(request: Request): Promise<Response> {
  const cache = await caches.open(SHELL);
  const kept = await cache.match(request);
  if (kept) return kept;
  const response = await fetch(request);
  if (response.ok) await cache.put(request, response.clone());
  return response;
}

scope.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  if (event.request.method !== "GET" || origin !== scope.location.origin) return;
  if (pathname === MANIFEST_PATH) event.respondWith(manifest(event.request));
  else if (LATER.includes(pathname)) event.respondWith(later(event.request));
  else if (FILES.includes(pathname)) {
    event.respondWith(caches.match(event.request, { ignoreSearch: true }).then((kept) => kept ?? fetch(event.request)));
  }
});
