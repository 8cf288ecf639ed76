const $ = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });

/** ?max-length=512 cuts pairs there, in tokens. */
const maxLength = Number(new URLSearchParams(location.search).get("max-length") ?? 8192);

let documents = [];

const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(2)} s`;

function make(tag, className, ...children) {
  const element = Object.assign(document.createElement(tag), { className });
  element.append(...children); // strings become text and never mark-up
  return element;
}

function show({ index, score, tokens, cut }) {
  const fill = make("i", "");
  fill.style.width = `${score * 100}%`;
  const facts = `document ${index + 1} · ${tokens} tokens${cut ? ` · ${cut} more cut off` : ""}`;
  const text = make("span", "", documents[index]);
  text.dir = "auto";
  const item = make("li", "", text,
    make("span", "score", score.toFixed(4)), make("div", "bar", fill), make("p", "quiet", facts));
  Object.assign(item.dataset, { index, score, tokens, cut });
  return item;
}

/** The folders of models/ that hold an export, the smallest first. */
async function listModels() {
  const response = await fetch("models/");
  const names = response.ok ? await response.json() : [];
  $("model").replaceChildren(...names.map((name) => make("option", "", name)));
  if (names.length === 0) $("status").textContent = "models/ holds no folder with a model.onnx.";
}

listModels().catch((error) => {
  $("status").textContent = `The list of models cannot be read: ${error.message}`;
});

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  documents = $("documents").value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (!$("query").value.trim() || documents.length === 0) {
    $("status").textContent = "Type a query, and documents, one per line.";
    return;
  }
  $("rank").disabled = true;
  $("ranking").replaceChildren();
  $("status").textContent = "Loading the model…";
  worker.postMessage({ folder: $("model").value, maxLength, query: $("query").value, documents });
});

worker.addEventListener("message", ({ data }) => {
  if (data.done) {
    $("status").textContent = `${data.done} of ${documents.length}`;
    return;
  }
  $("rank").disabled = false;
  if (data.error) {
    $("status").textContent = data.error;
    return;
  }
  $("ranking").replaceChildren(...data.ranking.map(show));
  $("status").textContent =
    `Ranked ${documents.length} documents in ${seconds(data.ranking_ms)}; ` +
    `loading took ${seconds(data.loading)}.`;
});

// Nothing can be ranked until the page is loaded again.
worker.addEventListener("error", ({ message }) => {
  $("rank").disabled = true;
  const why = message ?? "is transformers.js there? `make browser` installs it";
  $("status").textContent = `The worker cannot run: ${why}.`;
});
