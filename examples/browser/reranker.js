// Models that jina-rerank has exported, in a browser, by transformers.js: scores as Python's LocalScorer.

import {
  AutoModelForSequenceClassification,
  PreTrainedTokenizer,
  Tensor,
  env,
} from "./node_modules/@huggingface/transformers/dist/transformers.min.js";

const here = new URL(".", import.meta.url).pathname;
const runtime = `${here}node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded`;

// Everything from where this page is from: by default the runtime would come from a foreign host.
env.allowLocalModels = true;
env.allowRemoteModels = false;
env.localModelPath = `${here}models/`;
env.backends.onnx.wasm.wasmPaths = { mjs: `${runtime}.mjs`, wasm: `${runtime}.wasm` };
// The browser's own cache asks whether files have changed; these two would not.
env.useBrowserCache = false;
env.useWasmCache = false;

/** The least length of a pair, in tokens, as in Python: room for some of the query and the document. */
const LEAST = 16;

/** Scores documents for a query. */
export class Reranker {
  #model;
  #tokenizer;
  #template;
  #maxLength;

  constructor(model, tokenizer, template, maxLength) {
    this.#model = model;
    this.#tokenizer = tokenizer;
    this.#template = template;
    this.#maxLength = maxLength;
  }

  /**
   * Load a folder that `jina-rerank export` has written, by its name in models/.
   *
   * `maxLength` is the longest pair in tokens; the model's own limit applies if it is lower. What is
   * longer is cut.
   */
  static async load(folder, maxLength = 8192) {
    if (!Number.isInteger(maxLength) || maxLength < LEAST) {
      throw new Error(`The maximum length must be a whole number from ${LEAST}.`);
    }
    // The export's config.json has a model_type that transformers.js knows. Of a known model it
    // uses nothing but the names of inputs and outputs; the architecture is in the graph.
    const model = await AutoModelForSequenceClassification.from_pretrained(folder, {
      subfolder: "",
      dtype: "fp32", // the file's name: model.onnx, also where it holds 8-bit integers
      device: "wasm",
    });
    // AutoTokenizer wants a tokenizer_config.json, which not every export has.
    const rules = await readJson(folder, "tokenizer.json");
    const tokenizer = new PreTrainedTokenizer(rules, {});
    const template = readTemplate(tokenizer, rules.post_processor);
    const [config, options] = await Promise.all([
      readJson(folder, "config.json"),
      readJson(folder, "tokenizer_config.json").catch(() => ({})),
    ]);
    const longest = Math.min(maxLength, longestPair(config, options));
    return new Reranker(model, tokenizer, template, longest);
  }

  /**
   * The documents, best first: index, score in (0, 1), logit, tokens read and tokens cut off.
   *
   * `onScored` is told each time another one is done. One pair is computed at a time: none is
   * padded, so none costs what its longest neighbour does.
   */
  async rank(query, documents, onScored = () => {}) {
    const room = this.#maxLength - this.#template.special;
    const queryIds = this.#encode(query).slice(0, Math.floor(room / 2));
    const ranking = [];
    for (const [index, document] of documents.entries()) {
      const ids = this.#encode(document);
      const kept = ids.slice(0, room - queryIds.length);
      const logit = await this.#score(queryIds, kept);
      ranking.push({
        index,
        score: 1 / (1 + Math.exp(-logit)),
        logit,
        tokens: kept.length,
        cut: ids.length - kept.length,
      });
      onScored(ranking.length);
    }
    return ranking.sort((one, other) => other.score - one.score || one.index - other.index);
  }

  #encode(text) {
    return this.#tokenizer.encode(text, { add_special_tokens: false });
  }

  async #score(query, document) {
    const { before, between, after, queryType, documentType } = this.#template;
    const ids = [...before, ...query, ...between, ...document, ...after];
    const firsts = before.length + query.length + between.length;
    const types = ids.map((_, place) => (place < firsts ? queryType : documentType));
    const { logits } = await this.#model({
      input_ids: asTensor(ids),
      attention_mask: asTensor(ids.map(() => 1)),
      token_type_ids: asTensor(types),
    });
    return logits.data[0];
  }
}

async function readJson(folder, name) {
  const response = await fetch(`${env.localModelPath}${folder}/${name}`);
  if (!response.ok) throw new Error(`models/${folder}/${name} cannot be read: ${response.status}`);
  return response.json();
}

/** What the positions and the tokenizer allow, in tokens, as Python reads it. */
function longestPair(config, options) {
  // RoBERTa counts positions from behind the padding's; the rows up to there belong to no token.
  const unused = /roberta$/.test(config.model_type) ? (config.pad_token_id ?? 1) + 1 : 0;
  const positions = (config.max_position_embeddings ?? 8192) - unused;
  return Math.min(positions, options.model_max_length ?? Infinity);
}

/**
 * The special tokens of a pair and its segments, read off an example.
 *
 * The tokenizer's own truncation would cut whichever text is longer. Python gives the query at most
 * half of the room and the document the rest, so the two are encoded apart here and joined.
 */
function readTemplate(tokenizer, processor) {
  const [one, other] = ["a", "b"].map((text) =>
    tokenizer.encode(text, { add_special_tokens: false }));
  const { input_ids: pair, token_type_ids: types } = tokenizer("a", {
    text_pair: "b",
    return_tensor: false,
    return_token_type_ids: true,
  });
  // RoBERTa's has no segments, though transformers.js numbers them.
  const { processors = [processor] } = processor;
  const segments = !processors.some(({ type }) => type === "RobertaProcessing");
  const isAt = (ids) => (_, place) => ids.every((id, i) => pair[place + i] === id);
  const query = pair.findIndex(isAt(one));
  const document = pair.findLastIndex(isAt(other));
  return {
    before: pair.slice(0, query),
    between: pair.slice(query + one.length, document),
    after: pair.slice(document + other.length),
    queryType: segments ? types[query] : 0,
    documentType: segments ? types[document] : 0,
    special: pair.length - one.length - other.length,
  };
}

function asTensor(numbers) {
  return new Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
}
