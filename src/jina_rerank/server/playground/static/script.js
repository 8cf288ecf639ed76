import { divide, doubt, load } from "./documents.js";
import { EXAMPLE } from "./example.js";
import { LONGEST, pack, unpack } from "./link.js";
import { Column, count, preview } from "./ranking.js";
import { KeyNeeded, listModels, rank } from "./service.js";

const $ = (id) => document.getElementById(id);
const [form, query, texts, key, rankings] = ["form", "query", "documents", "key", "rankings"].map($);

/** Models that a link named before the service had told which there are. */
let wanted = [];
let models = null;
let running = new AbortController();
let columns = [];

/** The texts of the rankings that are shown; null where there are none. */
let ranked = null;

/** Families whose models read English only. */
const ENGLISH_ONLY = ["JinaBERT"];

const say = (text) => { $("status").textContent = text; };
const refuse = (text) => { $("refused").textContent = text; };
const division = () => form.elements.division.value;
const documents = () => divide(texts.value, division());
const chosen = () => [...$("models").querySelectorAll(":checked")].map((box) => box.value);

const number = (id) => ($(id).value === "" || !$(id).validity.valid ? null : $(id).valueAsNumber);
const written = () => JSON.stringify([query.value, documents()]);

/** Mark what the limits leave out, and whether the rankings are of the texts that are there now. */
function showLimits() {
  for (const column of columns) column.limit(number("top-n"), number("threshold"));
  const stale = ranked !== null && ranked !== written();
  $("stale").hidden = !stale;
  rankings.classList.toggle("edited", stale);
  $("code-field").hidden = true;
}

function showCount() {
  const number = documents().length;
  $("count").textContent = number ? count(number, "document") : "";
}

function fill(state) {
  query.value = state.query;
  texts.value = state.documents;
  form.elements.division.value = state.division;
  $("top-n").value = state.top_n ?? "";
  $("threshold").value = state.threshold ?? "";
  $("link-field").hidden = true;
  showCount();
  showLimits();
}

/** Ask which models there are, and show the field for a key where one is wanted. */
async function findModels() {
  try {
    showModels(await listModels(key.value));
    refuse("");
  } catch (error) {
    if (error instanceof KeyNeeded) $("key-field").hidden = false;
    // That a key is wanted, the field says already.
    refuse(error instanceof KeyNeeded && !key.value ? "" : error.message);
  }
}

function showModels(served) {
  models = served;
  const names = served.map((model) => model.id);
  const before = wanted.length ? wanted : chosen();
  const known = before.filter((name) => names.includes(name));
  const checked = known.length ? known : names.slice(0, 1);
  $("models").querySelector(".chips").replaceChildren(
    ...names.map((name) => {
      const box = Object.assign(document.createElement("input"), { type: "checkbox", name: "model", value: name });
      box.checked = checked.includes(name);
      const label = document.createElement("label");
      label.append(box, name);
      return label;
    }),
  );
  $("models").hidden = false;
  if (known.length < before.length) say("The link names a model that is not served here.");
  wanted = [];
}

/** What keeps a request from being sent, with the field that it is about. */
function problem() {
  if (!query.value.trim()) return [query, "Type a query."];
  if (!documents().length) return [texts, "Paste some documents, or open a file."];
  if (models === null) return [key, "The service wants a key."];
  if (!chosen().length) return [$("models").querySelector("input"), "Choose a model."];
  return null;
}

async function run() {
  giveUp();
  running = new AbortController();
  const { signal } = running;
  refuse("");
  for (const field of [query, texts, key]) field.removeAttribute("aria-invalid");
  if (models === null) await findModels();
  const found = problem();
  if (found) {
    const [field, message] = found;
    if (!$("refused").textContent) refuse(message);
    field.setAttribute("aria-invalid", "true");
    field.focus();
    return;
  }
  const given = documents();
  const ranking = chosen().map((model) => [model, new Column(model, given, doubtsOf(model, given), cancel)]);
  columns = ranking.map(([, column]) => column);
  rankings.replaceChildren(...columns.map((column) => column.element));
  ranked = written();
  $("tools").hidden = false;
  showLimits();
  say("Ranking…");
  // On a small screen they are below what has just been typed.
  if (rankings.getBoundingClientRect().top > innerHeight / 2) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    rankings.scrollIntoView({ behavior: still ? "instant" : "smooth" });
  }
  const ends = ranking.map(([model, column]) => fillColumn(model, column, given, signal));
  const best = (await Promise.all(ends)).filter(Boolean);
  if (signal.aborted) return;
  showLimits();
  say(best.length ? `Ranked ${count(given.length, "document")}. ${best.join(" ")}` : "");
}

/** Say of each document why a model is unlikely to read it well; "" where nothing speaks against it. */
function doubtsOf(name, given) {
  const { family } = models.find((model) => model.id === name);
  return given.map((text) => (ENGLISH_ONLY.includes(family) ? doubt(text) : ""));
}

/** Stop what is being ranked. */
function giveUp() {
  running.abort();
  for (const column of columns) column.cancel();
}

function cancel() {
  giveUp();
  say("Cancelled.");
  $("rank").focus();
}

async function copyCode(language) {
  const asked = {
    model: chosen()[0] ?? models[0].id,
    query: query.value,
    documents: documents(),
    top_n: number("top-n"),
    threshold: number("threshold"),
  };
  const { write } = await import("./code.js");
  const code = write(language, asked, new URL(".", location.href).href, !$("key-field").hidden);
  $("code").value = code;
  $("code-field").hidden = false;
  try {
    await navigator.clipboard.writeText(code);
    say("Code copied. It holds the query and the documents, and no key.");
  } catch {
    // As for links.
    $("code").select();
    say("Copy the code from its field. It holds the query and the documents, and no key.");
  }
}

/** Show one model's ranking, and say in words which document is best. */
async function fillColumn(model, column, given, signal) {
  try {
    const ranking = await rank(model, query.value, given, key.value, signal);
    column.show(ranking);
    const [{ index, score }] = ranking.results;
    return `Best with ${model}: number ${index + 1}, ${score.toFixed(4)}.`;
  } catch (error) {
    if (signal.aborted) return null;
    if (error instanceof KeyNeeded) $("key-field").hidden = false;
    column.fail(error.message);
    refuse(`${model}: ${error.message}`);
    return null;
  }
}

async function copyLink() {
  const address = location.href.replace(/#.*$/, "");
  const state = {
    query: query.value,
    documents: texts.value,
    division: division(),
    models: models === null ? wanted : chosen(),
    top_n: number("top-n"),
    threshold: number("threshold"),
  };
  const fragment = await pack(state, address);
  if (fragment === null) {
    $("link-field").hidden = true;
    const limit = LONGEST.toLocaleString("en");
    refuse(`Too much for a link: it would have more than ${limit} characters. Share a file instead.`);
    return;
  }
  refuse("");
  history.replaceState(null, "", `#${fragment}`);
  $("link").value = location.href;
  $("link-field").hidden = false;
  try {
    await navigator.clipboard.writeText(location.href);
    say("Link copied. It holds the query and the documents, and no key.");
  } catch {
    // Browsers allow it on https and on this machine only.
    $("link").select();
    say("Copy the link from its field. It holds the query and the documents, and no key.");
  }
}

async function openLink() {
  const fragment = location.hash.slice(1);
  if (!fragment) return;
  let state;
  try {
    state = await unpack(fragment);
  } catch {
    refuse("This link cannot be read: a part of it may be missing.");
    return;
  }
  fill(state);
  wanted = state.models;
  if (models === null) await findModels();
  else showModels(models);
  if (models !== null) await run();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
form.addEventListener("input", () => {
  showCount();
  showLimits();
});
$("tools").addEventListener("input", showLimits);
$("tools").addEventListener("click", ({ target }) => {
  if (target.dataset.language) copyCode(target.dataset.language);
});
key.addEventListener("change", findModels);
$("share").addEventListener("click", copyLink);
$("link").addEventListener("focus", () => $("link").select());
function runExample() {
  fill(EXAMPLE);
  run();
}
$("example").addEventListener("click", runExample);
$("preview").append(preview(EXAMPLE, runExample));
$("file").addEventListener("change", async ({ target }) => {
  try {
    const { text, division } = await load(target.files[0], form.elements.division.value);
    fill({ query: query.value, documents: text, division, top_n: number("top-n"), threshold: number("threshold") });
    refuse("");
  } catch (error) {
    refuse(error.message);
  }
  target.value = ""; // the same file may be opened again
});
// The same document in all columns, to be followed by the eye.
for (const [event, on] of [["pointerover", true], ["pointerout", false]]) {
  rankings.addEventListener(event, ({ target }) => {
    const index = target.closest("li")?.dataset.index;
    if (index === undefined || rankings.childElementCount < 2) return;
    for (const item of rankings.querySelectorAll(`li[data-index="${index}"]`)) {
      item.classList.toggle("same", on);
    }
  });
}
window.addEventListener("hashchange", openLink);

findModels().then(openLink);
