// Computes where it does not hold the page up. It is told a folder, a query and documents.

import { Reranker } from "./reranker.js";

let loaded = {};

self.addEventListener("message", async ({ data: { folder, maxLength, query, documents } }) => {
  try {
    const started = performance.now();
    if (loaded.folder !== folder || loaded.maxLength !== maxLength) {
      loaded = { folder, maxLength, reranker: await Reranker.load(folder, maxLength) };
    }
    const ready = performance.now();
    const ranking = await loaded.reranker.rank(query, documents, (done) => postMessage({ done }));
    postMessage({ ranking, loading: ready - started, ranking_ms: performance.now() - ready });
  } catch (error) {
    loaded = {};
    postMessage({ error: String(error.message ?? error) });
  }
});
