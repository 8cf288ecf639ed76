// A model's ranking as a list that moves from the order in which the documents were given.

/** Characters of a document that are shown at first. */
const SHOWN = 160;

/**
 * Documents up to which the list is there before its ranking, and moves into it.
 *
 * Beyond them most of it would happen out of sight, and the service may refuse so many.
 */
const MOVING = 100;

const MOVE = { duration: 700, easing: "cubic-bezier(.2, .8, .2, 1)" };

let columns = 0;

/** An element with properties and children; strings become text and never mark-up. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The page before its first ranking: a question, its documents as a retriever left them, a button. */
export function preview({ query, documents }, run) {
  const button = make("button", { type: "button" }, "Try it");
  button.addEventListener("click", run);
  const texts = documents.split("\n").map((text) => make("p", { className: "quiet" }, text));
  return make("div", {}, make("p", { className: "asked" }, query), ...texts, button);
}

/** "1,000 documents", "1 document". */
export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

const milliseconds = (value) => `${Math.max(1, Math.round(value)).toLocaleString("en")} ms`;

/** The column of one model: first the documents as given, then their ranking or what was wrong. */
export class Column {
  constructor(model, documents, cancel) {
    const id = `model-${++columns}`;
    // Here it goes away without moving anything.
    const button = make("button", { type: "button", className: "more" }, "Cancel");
    button.addEventListener("click", cancel);
    this.facts = make("p", { className: "facts" }, make("span", {}, "Ranking…", button));
    this.list = make("ol");
    const heading = make("header", {}, make("h2", { id }, model), this.facts);
    this.element = make("article", { className: "ranking" }, heading, this.list);
    this.element.setAttribute("aria-labelledby", id);
    this.element.setAttribute("aria-busy", "true");
    this.documents = documents;
    this.items = [];
    if (documents.length <= MOVING) this.#build();
  }

  /**
   * Show a ranking as `service.rank` answers it.
   *
   * `doubt` says of a text why the model is unlikely to read it well; "" where nothing speaks against it.
   */
  show(ranking, query, doubt) {
    const moves = this.items.length > 0;
    if (!moves) this.#build();
    this.degraded = ranking.degraded !== null;
    const facts = [
      count(this.items.length, "document"),
      ranking.tokens === null ? "" : count(ranking.tokens, "token"),
      milliseconds(ranking.seconds * 1000),
      `${milliseconds(ranking.wait)} round trip`,
    ];
    this.facts.replaceChildren(...facts.filter(Boolean).map((fact) => make("span", {}, fact)));
    const notes = [degradedInWords(ranking), doubtInWords(doubt(query)), cutInWords(ranking)];
    this.facts.after(...notes.filter(Boolean).map((note) => make("p", { className: "quiet warn" }, note)));
    const ranked = ranking.results.map((result) => this.items[result.index]);
    const before = this.items.map((item) => item.element.getBoundingClientRect().top);
    ranking.results.forEach((result, place) => {
      ranked[place].show(result, place, doubt(this.documents[result.index]));
    });
    this.list.append(...ranked.map((item) => item.element));
    if (moves) this.#move(ranked, before);
    this.ranked = ranked;
    this.element.setAttribute("aria-busy", "false");
  }

  /** Mark what `top_n` and `threshold` leave out; null is no limit. */
  limit(topN, threshold) {
    // As in the service: a threshold is chosen for the scores of the model itself.
    const lowest = this.degraded ? null : threshold;
    const kept = (this.ranked ?? []).filter(
      (item, place) => (topN === null || place < topN) && (lowest === null || item.value >= lowest),
    ).length;
    (this.ranked ?? []).forEach((item, place) => item.leaveOut(place >= kept, place === kept));
  }

  /** Say that there will be no ranking. */
  cancel() {
    if (this.element.getAttribute("aria-busy") === "true") this.facts.textContent = "cancelled";
    this.element.setAttribute("aria-busy", "false");
  }

  /** Say why there is no ranking. */
  fail(message) {
    this.facts.textContent = "";
    this.list.replaceWith(make("p", { className: "refused" }, message));
    this.element.setAttribute("aria-busy", "false");
  }

  #build() {
    this.items = this.documents.map((text, index) => new Item(text, index));
    this.list.append(...this.items.map((item) => item.element));
  }

  /** Every item now stands where it belongs: let it be seen to come from where it was. */
  #move(ranked, before) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const after = ranked.map((item) => item.element.getBoundingClientRect().top);
    ranked.forEach((item, place) => {
      const way = before[item.index] - after[place];
      if (way) {
        item.element.animate({ transform: [`translateY(${way}px)`, "none"] }, MOVE);
      }
    });
  }
}

function degradedInWords({ degraded }) {
  return degraded === null ? "" : `Degraded: ${degraded}. The lowest score does not apply.`;
}

function doubtInWords(doubt) {
  return doubt ? `The query is ${doubt}: this model reads English.` : "";
}

function cutInWords(ranking) {
  const query = ranking.truncated_query_tokens;
  const documents = ranking.results.filter((result) => result.truncated_tokens).length;
  return [
    query ? `The query is too long: its last ${count(query, "token")} were not read.` : "",
    documents
      ? `${count(documents, "document")} too long: ${shareCut(ranking)} of all documents' tokens, beyond the ` +
        "model's limit, was not read."
      : "",
  ].join(" ").trim();
}

function shareCut({ results }) {
  const sum = (name) => results.reduce((total, result) => total + (result[name] ?? 0), 0);
  const share = sum("truncated_tokens") / (sum("tokens") + sum("truncated_tokens"));
  return `${Math.max(1, Math.round(share * 100))}%`;
}

/** One document in a column. */
class Item {
  constructor(text, index) {
    this.index = index;
    this.place = make("span", { className: "place" }, String(index + 1));
    this.score = make("span", { className: "score" });
    this.bar = make("i");
    this.facts = make("p", { className: "facts" }, "not scored yet");
    const bar = make("div", { className: "bar" }, this.bar);
    bar.setAttribute("aria-hidden", "true");
    this.element = make("li", {}, this.place, shortened(text), this.score, bar, this.facts);
    this.element.dataset.index = index;
  }

  leaveOut(isOut, isFirst) {
    this.element.classList.toggle("out", isOut);
    this.element.classList.toggle("first-out", isFirst);
    this.left.textContent = isOut ? "left out" : "";
  }

  show({ score, tokens, truncated_tokens: cut }, place, doubt) {
    this.value = score;
    this.place.textContent = place + 1;
    this.score.replaceChildren(make("span", { className: "unseen" }, "score "), score.toFixed(4));
    // Too little to be seen is still more than nothing.
    requestAnimationFrame(() => {
      this.bar.style.width = `max(2px, ${Math.min(1, Math.max(0, score)) * 100}%)`;
    });
    this.left = make("span", { className: "left" });
    this.facts.replaceChildren(moved(this.index, place), this.left);
    if (tokens !== null) this.facts.append(make("span", {}, count(tokens, "token")));
    if (cut) {
      this.facts.append(make("span", { className: "warn" }, `${count(cut, "more token")} cut off`));
    }
    if (doubt) {
      this.facts.append(make("span", { className: "warn" }, `${doubt}: this model reads English`));
    }
  }
}

function moved(from, to) {
  if (from === to) return make("span", {}, `stays at ${from + 1}`);
  const sign = make("span", {}, from > to ? "↑ " : "↓ ");
  sign.setAttribute("aria-hidden", "true");
  const word = make("span", { className: "unseen" }, from > to ? "up " : "down ");
  return make("span", { className: from > to ? "up" : "down" }, sign, word, `from ${from + 1}`);
}

/** A document's text; a long one begins short and has a button. */
function shortened(text) {
  const element = make("p", { className: "text", dir: "auto" });
  if (text.length <= SHOWN * 1.2) {
    element.textContent = text;
    return element;
  }
  const start = `${text.slice(0, SHOWN).replace(/\s+\S*$/, "")}…`;
  const words = document.createTextNode(start);
  const button = make("button", { type: "button", className: "more" }, "Show all");
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    const opens = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(opens));
    button.textContent = opens ? "Show less" : "Show all";
    words.data = opens ? text : start;
  });
  element.append(words, button);
  return element;
}
