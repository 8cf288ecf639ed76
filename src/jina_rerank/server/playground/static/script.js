import { write } from "./code.js";
import { divide, doubt, load } from "./documents.js";
import { EXAMPLE } from "./example.js";
import { pack, unpack } from "./link.js";
import { Column, count, preview } from "./ranking.js";
import { KeyNeeded, listModels, rank } from "./service.js";

const $ = (id) => document.getElementById(id);
const [form, query, texts, key, rankings] = ["form", "query", "documents", "key", "rankings"].map($);

/** Models that a link named before the service had told which there are. */
let wanted = [];
let models = null;
let running = new AbortController();
let columns = [];

/** Models, query and documents of the rankings that are shown; null where there are none. */
let ranked = null;

/** Families whose models read English only. */
const ENGLISH_ONLY = ["JinaBERT"];

const say = (text) => { $("status").textContent = text; };
const refuse = (text) => { $("refused").textContent = text; };
const division = () => form.elements.division.value;
const documents = () => divide(texts.value, division());
const chosen = () => [...$("models").querySelectorAll(":checked")].map((box) => box.value);

const number = (id) => ($(id).value === "" || !$(id).validity.valid ? null : $(id).valueAsNumber);

/** The key without the blanks that may be copied with it. */
const keyText = () => key.value.trim();

/** Tell whether the rankings are of other texts than those that are there now. */
function isStale() {
  if (ranked === null) return false;
  const given = documents();
  return query.value !== ranked.query
    || given.length !== ranked.documents.length
    || given.some((text, index) => text !== ranked.documents[index]);
}

/** Mark what the limits leave out of a ranking. */
function limit(column) {
  column.limit(number("top-n"), number("threshold"));
}

/** Mark what the limits leave out, and whether the rankings are of the texts that are there now. */
function showLimits() {
  columns.forEach(limit);
  const stale = isStale();
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
  $("unserved").textContent = "";
  showCount();
  showLimits();
}

/** Take the link away, from the address too: it is not of what is there now. */
function dropLink() {
  $("link-field").hidden = true;
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
}

/** Ask which models there are, and show the field for a key where one is wanted. */
async function findModels() {
  try {
    showModels(await listModels(keyText()));
    refuse("");
  } catch (error) {
    if (error instanceof KeyNeeded) $("key-field").hidden = false;
    // That a key is wanted, the field says already.
    refuse(error instanceof KeyNeeded && !keyText() ? "" : error.message);
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
  $("unserved").textContent = known.length < before.length ? "The link names a model that is not served here." : "";
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

/** Take the marks off a part of the page, with what was said of them. */
function unmark(part) {
  const marked = part.querySelectorAll("[aria-invalid]");
  for (const field of marked) field.removeAttribute("aria-invalid");
  if (marked.length) refuse("");
}

async function run() {
  giveUp();
  running = new AbortController();
  const { signal } = running;
  say("");
  refuse("");
  unmark(document);
  if (models === null) await findModels();
  if (signal.aborted) return;
  const found = problem();
  if (found) {
    const [field, message] = found;
    if (!$("refused").textContent) refuse(message);
    field.setAttribute("aria-invalid", "true");
    field.focus();
    return;
  }
  const asked = { models: chosen(), query: query.value, documents: documents() };
  ranked = asked;
  columns = asked.models.map((model) => new Column(model, asked.documents, cancel));
  // What has the focus there goes away.
  if (rankings.contains(document.activeElement)) $("rank").focus({ preventScroll: true });
  rankings.replaceChildren(...columns.map((column) => column.element));
  $("tools").hidden = false;
  showLimits();
  say("Ranking…");
  // On a small screen they are below what has just been typed.
  if (rankings.getBoundingClientRect().top > innerHeight / 2) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    rankings.scrollIntoView({ behavior: still ? "instant" : "smooth" });
  }
  const ends = asked.models.map((model, place) => fillColumn(model, columns[place], asked, signal));
  const best = (await Promise.all(ends)).filter(Boolean);
  if (signal.aborted) return;
  say(best.length ? `Ranked ${count(asked.documents.length, "document")}. ${best.join(" ")}` : "");
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

/** Tell whether the limits can be used; the browser says at its field what is wrong with one. */
const areLimitsRight = () => $("top-n").reportValidity() && $("threshold").reportValidity();

async function copyCode(language) {
  if (!areLimitsRight()) return;
  const asked = {
    model: ranked.models[0],
    query: ranked.query,
    documents: ranked.documents,
    top_n: number("top-n"),
    threshold: number("threshold"),
  };
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
async function fillColumn(model, column, asked, signal) {
  try {
    const ranking = await rank(model, asked.query, asked.documents, keyText(), signal);
    column.show(ranking, asked.query, ENGLISH_ONLY.includes(ranking.family) ? doubt : () => "");
    limit(column);
    const [{ index, score }] = ranking.results;
    const how = ranking.degraded === null ? "" : ", degraded";
    return `Best with ${model}${how}: number ${index + 1}, ${score.toFixed(4)}.`;
  } catch (error) {
    if (signal.aborted) return null;
    if (error instanceof KeyNeeded) $("key-field").hidden = false;
    column.fail(error.message);
    refuse(`${model}: ${error.message}`);
    return null;
  }
}

async function copyLink() {
  if (!areLimitsRight()) return;
  const address = location.href.replace(/#.*$/, "");
  const state = {
    query: query.value,
    documents: texts.value,
    division: division(),
    models: models === null ? wanted : chosen(),
    top_n: number("top-n"),
    threshold: number("threshold"),
  };
  let fragment;
  try {
    fragment = await pack(state, address);
  } catch (error) {
    $("link-field").hidden = true;
    refuse(error.message);
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
form.addEventListener("input", ({ target }) => unmark(target.closest(".field")));
for (const part of [form, $("tools")]) {
  part.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault(); // a button would be pressed as well
    form.requestSubmit();
  });
  part.addEventListener("input", ({ target }) => {
    if (target !== key) dropLink();
    showCount();
    showLimits();
  });
}
$("tools").addEventListener("click", ({ target }) => {
  if (target.dataset.language) copyCode(target.dataset.language);
});
key.addEventListener("change", findModels);
$("share").addEventListener("click", copyLink);
$("link").addEventListener("focus", () => $("link").select());
function runExample() {
  fill(EXAMPLE);
  dropLink();
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
