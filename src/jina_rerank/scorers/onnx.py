"""`OnnxScorer`: an encoder reranker on this machine without torch."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Hashable, Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from .._installed import check_installed, missing
from ..embedded import EMBEDDED_MODEL, Source, embedded_model_folder, find_source
from ..errors import ConfigurationError, ModelLoadError, ScoringError
from ._pair_model import TOKENS_PER_BATCH, PairModel, facts_of
from .base import LongDocuments, ModelFacts
from .in_process import InProcessScorer
from .weights import Weights, find_weights

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from ..encoders import PairTokenizer, TokenPair

logger = logging.getLogger(__name__)

_FATAL = 4
"""The log level at which ONNX Runtime writes nothing; its failures are raised as errors."""

PADDING_TOKENS = 256
"""Most padding tokens in one run of the model. They cost as much as a run's own overhead, some
milliseconds. Without a limit, one long document would pad all its neighbours to its length."""


class OnnxScorer(InProcessScorer):
    """Scores with an encoder reranker in ONNX Runtime, on the processor.

    Behaves as `LocalScorer` does in float32, and gives the same logits to the fourth digit. A
    folder that was exported with `int8` is faster and smaller, and differs more: see ONNX in the
    documentation.

    Args:
        model: None or `jina-rerank-mini` for the embedded model, whose graph is built when it is
            loaded; otherwise a folder that `jina-rerank export` has written: model.onnx,
            config.json and tokenizer.json.
        max_length: As for `LocalScorer`.
        long_documents: As for `LocalScorer`.

    Raises:
        ConfigurationError: An argument is out of range.
    """

    def __init__(
        self,
        model: Source = None,
        *,
        max_length: int = 8192,
        long_documents: LongDocuments = "truncate",
    ) -> None:
        if not isinstance(model, str | PathLike | None):
            raise ConfigurationError(f"model must be a folder, not {type(model).__name__}")
        source = find_source(model)
        super().__init__(
            EMBEDDED_MODEL if source is None else fspath(source),
            source=source,
            revision=None,
            dtype="float32",
            device="cpu",
            max_length=max_length,
            long_documents=long_documents,
        )

    def __repr__(self) -> str:
        return (
            f"OnnxScorer({self._source!r}, max_length={self._max_length}, "
            f"long_documents={self._long_documents!r})"
        )

    def _key(self) -> Hashable:
        return (OnnxScorer, self._source_key())

    def check_installed(self) -> None:
        """Check now, and not at the first call, that the packages are installed; none is imported.

        Raises:
            ConfigurationError: A package that loading needs is missing.
        """
        embedded = self._source is None
        packages = ("onnx", "safetensors") if embedded else ()
        check_installed(("onnxruntime", "tokenizers", *packages), "OnnxScorer", "onnx")
        if embedded:
            embedded_model_folder()

    def _load(self) -> PairModel:
        embedded = self._source is None
        # ONNX Runtime reads this at import. Otherwise it keeps an id of the machine, and events to
        # send, in the user's cache.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import onnxruntime  # noqa: F401 - reports a missing package before anything is read

            from ..encoders import read_checkpoint, read_tokenizer
            from ..onnx.files import OnnxFiles, read_int8_rows

            if embedded:
                import safetensors.numpy  # noqa: F401 - as above

                from ..onnx.graph import build_model
        except ImportError as error:
            raise missing(error.name, "OnnxScorer", "onnx") from error
        started = time.perf_counter()
        folder = embedded_model_folder() if embedded else Path(self.model).expanduser()
        files = OnnxFiles.in_folder(folder)
        if not embedded:
            files.check()
        # Identified before they are read, since they may be overwritten meanwhile.
        weights = find_weights(self._source, None)
        checkpoint = read_checkpoint(files.checkpoint)
        tokenizer = read_tokenizer(checkpoint)
        if embedded:
            graph = build_model(checkpoint.architecture, read_int8_rows(folder)).SerializeToString()
            session = _open(graph, folder)
        else:
            session = _open(str(files.model), files.model)
        logger.info("loaded %s in %.2f s", self.model, time.perf_counter() - started)
        return _OnnxPairs(session, tokenizer, facts_of(checkpoint, "float32"), weights)


def _open(model: str | bytes, origin: Path) -> InferenceSession:
    """Open a session on the processor; `model` is a path or the graph itself."""
    from onnxruntime import InferenceSession, SessionOptions

    from ..onnx.files import IDS, INPUTS, MASK, OUTPUT

    options = SessionOptions()
    options.log_severity_level = _FATAL
    try:
        session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the errors of ONNX Runtime have no common base class
        raise ModelLoadError(f"{origin}: cannot be loaded: {error}") from error
    inputs = {value.name for value in session.get_inputs()}
    outputs = {value.name: value.shape for value in session.get_outputs()}
    if not {IDS, MASK} <= inputs <= set(INPUTS) or outputs.get(OUTPUT, [])[1:] != [1]:
        raise ModelLoadError(
            f"{origin}: has inputs {sorted(inputs)} and outputs {outputs}; not an exported reranker"
        )
    return session


class _OnnxPairs:
    """A session as a `PairModel`."""

    device = "cpu"
    batch_tokens = TOKENS_PER_BATCH

    def __init__(
        self,
        session: InferenceSession,
        tokenizer: PairTokenizer,
        facts: ModelFacts,
        weights: Weights,
    ) -> None:
        from onnxruntime import RunOptions

        self.tokenizer = tokenizer
        self.facts = facts
        self.max_length = facts.max_tokens
        self.weights = weights
        self._session = session
        self._inputs = {value.name for value in session.get_inputs()}
        self._options = RunOptions()
        # A run's memory is freed after it. Without an arena every intermediate result would be
        # allocated anew: on two cores 4,096 tokens then took a fifth longer.
        self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def logits(self, pairs: Sequence[TokenPair]) -> list[float]:
        return [logit for batch in _batches(pairs) for logit in self._run(batch)]

    def _run(self, pairs: Sequence[TokenPair]) -> list[float]:
        import numpy as np

        ids = np.zeros((len(pairs), max(map(len, pairs))), np.int64)
        types, mask = np.zeros_like(ids), np.zeros_like(ids)
        for row, pair in enumerate(pairs):
            ids[row, : len(pair)] = pair.input_ids
            types[row, : len(pair)] = pair.token_type_ids
            mask[row, : len(pair)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        inputs = {name: given[name] for name in self._inputs}
        try:
            (logits,) = self._session.run(["logits"], inputs, self._options)
        except Exception as error:  # the errors of ONNX Runtime have no common base class
            raise ScoringError(f"the model failed on {ids.size:,} tokens: {error}") from error
        return [float(logit) for logit in logits[:, 0]]


def _batches(pairs: Sequence[TokenPair]) -> Iterator[list[TokenPair]]:
    """Divide pairs, in the order given, into batches with little padding."""
    batch: list[TokenPair] = []
    longest = tokens = 0
    for pair in pairs:
        longest, tokens = max(longest, len(pair)), tokens + len(pair)
        if batch and longest * (len(batch) + 1) - tokens > PADDING_TOKENS:
            yield batch
            batch, longest, tokens = [], len(pair), len(pair)
        batch.append(pair)
    if batch:
        yield batch
