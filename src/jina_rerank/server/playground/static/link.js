// What is on the page as a link. It stands in the fragment, which browsers send to nobody.

/** Characters of a link above which programs that people share links with cut it. */
const LONGEST = 16_000;

/** Characters that a link may unfold to; a few kilobytes of a hostile one could become gigabytes. */
const LARGEST = 1_000_000;

/** Goes before the packed state, so that links outlive a change of their form. */
const FORM = "1.";

/**
 * A fragment for the state, without its #.
 *
 * Throws an Error, with words for the page, where the state is too large for a link.
 */
export async function pack(state, address) {
  const json = JSON.stringify(state);
  if (json.length > LARGEST) throw tooMuch("the texts have", LARGEST);
  const stream = new Blob([json]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  if (address.length + (bytes.length * 4) / 3 > LONGEST) throw tooMuch("it would have", LONGEST);
  const letters = btoa(String.fromCharCode(...bytes));
  return FORM + letters.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function tooMuch(which, limit) {
  const characters = limit.toLocaleString("en");
  return new Error(`Too much for a link: ${which} more than ${characters} characters. Share a file instead.`);
}

/**
 * The state of a fragment, checked field by field: anybody may have written it.
 *
 * Throws an Error where it is none.
 */
export async function unpack(fragment) {
  if (!fragment.startsWith(FORM)) throw new Error("another form");
  const letters = fragment.slice(FORM.length).replaceAll("-", "+").replaceAll("_", "/");
  const bytes = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const { query, documents, division, models, top_n, threshold } = JSON.parse(await readText(stream));
  if (typeof query !== "string" || typeof documents !== "string") throw new Error("no texts");
  if (!Array.isArray(models)) throw new Error("no models");
  return {
    query,
    documents,
    division: division === "blocks" ? "blocks" : "lines",
    models,
    top_n: Number.isInteger(top_n) && top_n > 0 ? top_n : null,
    threshold: typeof threshold === "number" && threshold >= 0 && threshold <= 1 ? threshold : null,
  };
}

async function readText(stream) {
  let text = "";
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += value;
    if (text.length > LARGEST) {
      await reader.cancel();
      throw new Error("too large");
    }
  }
}
