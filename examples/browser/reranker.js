// The embedded model of jina-rerank in a browser, by transformers.js: scores as Python's LocalScorer.

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

/** Scores documents for a query. */
export class Reranker {
  #model;
  #tokenizer;
  #template;
  #maxLength;

  constructor(model, tokenizer, maxLength) {
    this.#model = model;
    this.#tokenizer = tokenizer;
    this.#template = readTemplate(tokenizer);
    this.#maxLength = maxLength;
  }

  /**
   * Load a folder that `jina-rerank export` has written, by its name in models/.
   *
   * `maxLength` is the longest pair in tokens; what is longer is cut.
   */
  static async load(folder, maxLength = 8192) {
    // The export's config.json has a model_type that transformers.js knows: bert. Of a known model
    // it uses nothing but the names of inputs and outputs; the architecture is in the graph.
    const model = await AutoModelForSequenceClassification.from_pretrained(folder, {
      subfolder: "",
      dtype: "fp32", // the file's name: model.onnx, also where it holds 8-bit integers
      device: "wasm",
    });
    // AutoTokenizer wants a tokenizer_config.json, in which there would be nothing to say.
    const response = await fetch(`${env.localModelPath}${folder}/tokenizer.json`);
    return new Reranker(model, new PreTrainedTokenizer(await response.json(), {}), maxLength);
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

/**
 * The special tokens of a pair and its segments, read off an example.
 *
 * The tokenizer's own truncation would cut whichever text is longer. Python gives the query at most
 * half of the room and the document the rest, so the two are encoded apart here and joined.
 */
function readTemplate(tokenizer) {
  const ids = (text, options = {}) => tokenizer.encode(text, { add_special_tokens: false, ...options });
  const [one] = ids("a");
  const [other] = ids("b");
  const { input_ids: pair, token_type_ids: types } = tokenizer("a", {
    text_pair: "b",
    return_tensor: false,
    return_token_type_ids: true,
  });
  const query = pair.indexOf(one);
  const document = pair.indexOf(other);
  return {
    before: pair.slice(0, query),
    between: pair.slice(query + 1, document),
    after: pair.slice(document + 1),
    queryType: types[query],
    documentType: types[document],
    special: pair.length - 2,
  };
}

function asTensor(numbers) {
  return new Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
}
