// Turning what is typed or loaded into documents.

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
