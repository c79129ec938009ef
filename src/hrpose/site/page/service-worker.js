// Keeps the files of this site for use without a network. `hrpose site` fills in the first three.

const BUILD = "__BUILD__"; // of all files: another build is another cache
const FILES = "__FILES__"; // what is kept at once; the rest when it is first used
const HEADERS = "__HEADERS__"; // set on every answer

const SITE = `hrpose ${self.registration.scope} `; // a host may have several
const CACHE = SITE + BUILD;

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(keepAll());
});

async function keepAll() {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.map((file) => new Request(file, { cache: "no-cache" })));
}

self.addEventListener("activate", (event) => {
  event.waitUntil(takeOver());
});

async function takeOver() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith(SITE) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(self.registration.scope)) {
    event.respondWith(answer(event));
  }
});

async function answer(event) {
  const { request } = event;
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept) return withHeaders(kept);
  const found = await fetch(request.url, { cache: "no-cache" });
  if (found.ok) event.waitUntil(cache.put(request.url, found.clone()));
  return withHeaders(found);
}

function withHeaders(response) {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}
