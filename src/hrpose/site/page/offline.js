// The service worker: it keeps the files for use without a network, and isolates the page from other
// origins where the host does not, so that WebAssembly may use threads.

const RELOADED = "hrpose.reloaded";
const PATIENCE = 8000; // milliseconds

/** Wait until the service worker has the page, if there can be one. */
export async function installed() {
  const container = navigator.serviceWorker; // only over https and on localhost
  if (!container) return;
  try {
    await container.register(new URL("../service-worker.js", import.meta.url));
  } catch {
    return; // private windows may forbid it
  }
  if (!container.controller) {
    const taken = new Promise((done) => container.addEventListener("controllerchange", done, { once: true }));
    await Promise.race([taken, new Promise((done) => setTimeout(done, PATIENCE))]);
  }
  if (container.controller && !globalThis.crossOriginIsolated && navigator.hardwareConcurrency > 1) {
    await reloadOnce();
  }
}

/** The headers come with the page: those of the service worker with its next load. */
async function reloadOnce() {
  try {
    if (sessionStorage.getItem(RELOADED)) return;
    sessionStorage.setItem(RELOADED, "yes");
  } catch {
    return; // without a note of it, it would be reloaded again and again
  }
  location.reload();
  await new Promise(() => {});
}
