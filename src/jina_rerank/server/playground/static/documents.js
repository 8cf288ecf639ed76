// Turning what is typed or loaded into documents, and telling whether they are likely English.

/** How the page divides a text: "lines" is a document per line, "blocks" has blank lines between. */
export function divide(text, division) {
  const parts = text.split(division === "blocks" ? /\r?\n(?:[^\S\n]*\r?\n)+/ : /\r?\n/);
  return parts.map((part) => part.trim()).filter(Boolean);
}

/** The text that `divide` turns into these documents, and how it has to. */
export function join(documents) {
  const division = documents.some((document) => document.includes("\n")) ? "blocks" : "lines";
  // A blank line inside a document would divide it.
  const parts = documents.map((document) => document.replace(/\n\s*\n/g, "\n"));
  return { text: parts.join(division === "blocks" ? "\n\n" : "\n"), division };
}

/** Largest file that is loaded, in bytes: as much as the service takes by default. */
export const LARGEST_FILE = 10_000_000;

/**
 * What a file puts into the page.
 *
 * Throws an Error, with words for the page, where the file cannot be used.
 */
export async function load(file, division) {
  if (file.size > LARGEST_FILE) {
    throw new Error(`${file.name} has more than ${LARGEST_FILE / 1e6} MB.`);
  }
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name} is not text in UTF-8.`);
  }
  return /\.(jsonl|ndjson)$/i.test(file.name)
    ? join(readLines(text, file.name))
    : { text: text.trim(), division };
}

function readLines(text, name) {
  const documents = [];
  text.split("\n").forEach((line, number) => {
    if (!line.trim()) return;
    let value;
    try {
      value = JSON.parse(line);
    } catch {
      throw new Error(`${name}, line ${number + 1}, is not JSON.`);
    }
    if (typeof value?.text !== "string") {
      throw new Error(`${name}, line ${number + 1}, has no string under "text".`);
    }
    documents.push(value.text.replaceAll("\r\n", "\n").trim());
  });
  return documents.filter(Boolean);
}

/** Words that most English sentences have one of, and the languages below do not have. */
const ENGLISH = new Set(
  ("the of and to is that it with his be at by this from they have had not are what were when we there " +
    "can your which their said if each about how up out them then she many some would other into more " +
    "two him could my than been who its now did get may you does should where why").split(" "),
);

/** Frequent words of German, French, Spanish, Italian and Portuguese that are no words of English. */
const OTHERS = new Set(
  ("der das und ist nicht ein eine zu von mit sich auf für wie wo wird auch dem des le la les et est un " +
    "une dans que qui ne pas sur au avec ce il du el los las y en es por con para su al lo como más di " +
    "che è sono della nel alla gli o um uma não da em mais à").split(" "),
);

/** Share of letters that must be Latin. */
const LATIN_SHARE = 0.7;

/** Different words of other languages that a text without any English one must have. */
const SURE = 2;

/** Say in words why a text is unlikely to be English; "" where nothing speaks against it. */
export function doubt(text) {
  const letters = text.match(/\p{L}/gu) ?? [];
  if (!letters.length) return "";
  const latin = letters.filter((letter) => /\p{Script=Latin}/u.test(letter)).length;
  if (latin < LATIN_SHARE * letters.length) return "not in Latin letters";
  const words = [...new Set(text.toLowerCase().match(/\p{L}+/gu))];
  if (words.some((word) => ENGLISH.has(word))) return "";
  return words.filter((word) => OTHERS.has(word)).length >= SURE ? "perhaps not in English" : "";
}
