// The request behind a ranking, as a program that can be pasted. No key is ever in it.

const KEY = "JINA_RERANK_KEY";

/**
 * Write a request in a language: "curl", "python" or "javascript".
 *
 * `asked` has model, query, documents, top_n and threshold, the last two null where there is none;
 * `address` is that of the service, and `hasKey` tells whether it wants a key.
 */
export function write(language, asked, address, hasKey) {
  return WRITERS[language](asked, address.replace(/\/$/, ""), hasKey);
}

const WRITERS = { curl, python, javascript };

function body({ model, query, documents, top_n, threshold }) {
  const request = { model, query, documents };
  if (top_n !== null) request.top_n = top_n;
  if (threshold !== null) request.threshold = threshold;
  return request;
}

function curl(asked, address, hasKey) {
  // Within single quotes a shell reads everything as it is, but for a single quote.
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const head = [
    `curl ${quoted(`${address}/v1/rerank`)}`,
    ...(hasKey ? [`-H "Authorization: Bearer $${KEY}"`] : []),
    "-H 'Content-Type: application/json'",
    "--data-binary @- <<'JSON'",
  ].join(" \\\n  ");
  // On standard input, since Linux allows 128 KiB for an argument. No line of the body is JSON alone:
  // in texts, line breaks are escaped.
  return `${head}\n${JSON.stringify(body(asked), null, 1)}\nJSON\n`;
}

function python({ model, query, documents, top_n, threshold }, address, hasKey) {
  const key = hasKey ? [`    api_key=os.environ["${KEY}"],`] : [];
  const options = [
    ...(top_n === null ? [] : [`top_n=${top_n}`]),
    ...(threshold === null ? [] : [`threshold=${threshold}`]),
  ].map((option) => `, ${option}`).join("");
  return [
    ...(hasKey ? ["import os", ""] : []),
    "from jina_rerank import RemoteScorer, Reranker",
    "",
    `query = ${literal(query)}`,
    `documents = [\n${documents.map((text) => `    ${literal(text)},`).join("\n")}\n]`,
    "",
    "scorer = RemoteScorer(",
    `    ${literal(model)},`,
    `    base_url=${literal(address)},`,
    ...key,
    ")",
    "with Reranker(scorer) as reranker:",
    `    for hit in reranker.rank(query, documents${options}):`,
    "        print(hit.index, hit.score, hit.text)",
    "",
  ].join("\n");
}

/** A text as a literal of Python, which has JSON's escapes; JSON leaves DEL and U+2028 as they are. */
function literal(text) {
  return JSON.stringify(text);
}

function javascript(asked, address, hasKey) {
  const headers = hasKey
    ? `{\n    "content-type": "application/json",\n    authorization: \`Bearer \${process.env.${KEY}}\`,\n  }`
    : `{ "content-type": "application/json" }`;
  return [
    `const response = await fetch(${JSON.stringify(`${address}/v1/rerank`)}, {`,
    `  method: "POST",`,
    `  headers: ${headers},`,
    `  body: JSON.stringify(${JSON.stringify(body(asked), null, 2).replaceAll("\n", "\n  ")}),`,
    "});",
    "if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);",
    "const { results } = await response.json();",
    "for (const { index, relevance_score, document } of results) {",
    "  console.log(index, relevance_score, document);",
    "}",
    "",
  ].join("\n");
}
