// What others change while the page is open.

import { fetchJson } from "/page/server.js";

const NEWS = 2500; // ms between two questions

/**
 * Ask again and again. `state` has the images and the editor of the one that is shown; `load()`
 * fetches the images anew, `changed()` shows what is different.
 */
export async function followOthers(state, saver, { load, changed }) {
  for (;;) {
    await new Promise((done) => setTimeout(done, NEWS));
    if (!state.about || document.hidden) continue;
    try {
      const news = await fetchJson(`/v1/label/news?after=${saver.revision}`);
      if (news.count !== state.images.length || news.ready !== state.ready) await load();
      if (news.revision <= saver.revision) continue;
      for (const image of news.images) {
        const here = state.images.find((other) => other.id === image.id);
        if (here) Object.assign(here, image, { done: saver.isDone(image) });
      }
      const shown = state.editor;
      if (news.images.some((image) => image.id === shown?.image.id)) await takeLabels(state, saver);
      saver.revision = Math.max(saver.revision, news.revision);
      changed();
    } catch { /* saving says where the server cannot be reached */ }
  }
}

/** Take over what others changed in the image that is shown; what is not saved yet is not touched. */
async function takeLabels(state, saver) {
  const { editor } = state;
  const image = await fetchJson(`/v1/label/images/${editor.image.id}`);
  if (state.editor !== editor) return;
  const theirs = new Map(image.persons.map((person) => [person.id, person]));
  for (const { id, version, label } of theirs.values()) {
    if (saver.waits(id) || version <= saver.version(id)) continue;
    saver.know(id, version, label);
    editor.replace(id, label);
  }
  for (const { id, suggested } of [...editor.persons]) {
    const gone = !suggested && !theirs.has(id) && saver.version(id) > 0;
    if (gone && !saver.waits(id)) editor.replace(id, null);
  }
  if (!saver.waits(`image ${image.id}`)) {
    saver.know(`image ${image.id}`, image.version, image.done);
    editor.image.done = image.done;
  }
}
