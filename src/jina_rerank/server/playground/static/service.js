// Asking the service. What goes wrong is an Error whose message is for people.

/** The service wants a key, or another one. */
export class KeyNeeded extends Error {}

/** The models that are served, each with `id` and `family`; the first is the default. */
export async function listModels(key) {
  const { data } = await ask("v1/models", key, {});
  return data;
}

/**
 * One model's ranking: `results` best first, each with index, score, tokens and truncated_tokens;
 * the model's `family`; `degraded`, the reason if the scores are not the model's own, otherwise null;
 * `tokens` computed and `seconds` taken by the service; `wait`, the milliseconds until it was here.
 */
export async function rank(model, query, documents, key, signal) {
  const started = performance.now();
  const body = JSON.stringify({ model, query, documents });
  const answer = await ask("playground/rank", key, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
    signal,
  });
  return { ...answer, wait: performance.now() - started };
}

async function ask(path, key, options) {
  const headers = { ...options.headers };
  // Others cannot stand in a header, or not as they are.
  if (/[^\x21-\x7e]/.test(key)) throw new KeyNeeded("A key has letters, digits and signs only.");
  if (key) headers.authorization = `Bearer ${key}`;
  let response;
  try {
    // Relative, so that a proxy may put the service under a path of its own.
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The service cannot be reached.");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  throw refusal(response, answer, key);
}

function refusal(response, answer, key) {
  if (response.status === 401) {
    return new KeyNeeded(key ? "The service does not know this key." : "The service wants a key.");
  }
  const { message, request_id: id } = errorIn(answer);
  const said = typeof message === "string" && message
    ? `${message[0].toUpperCase()}${message.slice(1)}.`
    : `The service answered ${response.status}.`;
  // A proxy may send a date instead of seconds.
  const wait = response.headers.get("retry-after");
  const when = /^\d+$/.test(wait) ? ` Try again in ${wait} s.` : "";
  // Only of the service's own failures does its log tell more than the message.
  const where = response.status >= 500 && id ? ` Request id: ${id}.` : "";
  return new Error(`${said}${when}${where}`);
}

/** The part of an error's body that has its message: Jina's dialect may have it under `detail`. */
function errorIn(answer) {
  const detail = answer?.detail;
  if (typeof detail === "string") return { ...answer, message: detail };
  return detail ?? answer ?? {};
}
