"""`LocalScorer`: an encoder reranker that runs natively on this machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from .._installed import check_installed, missing
from ..embedded import EMBEDDED_MODEL, Source, embedded_model_folder, find_source
from ..errors import ConfigurationError, ScoringError
from ._pair_model import TOKENS_PER_BATCH, PairModel, facts_of
from ._torch import import_torch
from .base import LongDocuments, ModelFacts
from .device import Dtype, check_int8, choose_device, choose_dtype
from .in_process import InProcessScorer
from .weights import Weights, find_weights

if TYPE_CHECKING:
    import torch

    from ..encoders import EncoderModel, PairTokenizer, TokenPair
    from ..encoders.files import CheckpointFiles

    Forward = Callable[[torch.Tensor, Sequence[int], torch.Tensor], torch.Tensor]
    """The logits of sequences that lie one after another, from their ids, lengths and types."""

logger = logging.getLogger(__name__)

LOCAL_MODEL = "a local model"


class LocalScorer(InProcessScorer):
    """Scores with an encoder reranker: ours, Jina's v1, ms-marco-MiniLM, bge-reranker, Ettin's, ...

    The model's family must be one of `encoders.families`; for another family, the error has the
    name under which sentence-transformers may run it.

    Building one is cheap; the model is loaded at the first call or by `warm_up`, once for all
    scorers in the process with the same model, dtype and device. No remote code is ever run.

    Args:
        model: None or `jina-rerank-mini` for the embedded model; otherwise a folder or a hub id.
        dtype: Dtype of the computation: `"auto"`, `"float32"`, `"bfloat16"` or, on a CPU with VNNI,
            `"int8"`. `"auto"` is bfloat16 where the processor is faster with it, otherwise float32.
        device: `"auto"` is the first CUDA device if there is one, otherwise the CPU;
            or any name that torch knows. CUDA in bfloat16 is experimental: attention is compiled
            when the model is loaded, and where that fails a warning says that it will be slower.
        max_length: Longest pair of query and document in tokens, special tokens included; the
            model's own limit applies if it is lower. The query keeps up to half of it.
        long_documents: Treatment of a document that does not fit. `"truncate"` reads its
            beginning; `"chunk"` reads it all in overlapping windows, and the best window's
            score is the document's; `"error"` refuses it. The number of cut tokens is reported for
            each document.
        revision: A branch, tag or commit on the hub.

    Raises:
        ConfigurationError: An argument is out of range.
    """

    def __init__(
        self,
        model: Source = None,
        *,
        dtype: Dtype = "auto",
        device: str = "auto",
        max_length: int = 8192,
        long_documents: LongDocuments = "truncate",
        revision: str | None = None,
    ) -> None:
        if not isinstance(model, str | PathLike | None):
            raise ConfigurationError(
                f"model must be a hub id or a folder, not {type(model).__name__}"
            )
        source = find_source(model)
        super().__init__(
            EMBEDDED_MODEL if source is None else fspath(source),
            source=source,
            revision=revision,
            dtype=dtype,
            device=device,
            max_length=max_length,
            long_documents=long_documents,
        )
        if source is None and revision is not None:
            raise ConfigurationError("revision: the embedded model has none; name a hub id")

    def __repr__(self) -> str:
        return (
            f"LocalScorer({self._source!r}, dtype={self._dtype!r}, device={self._device!r}, "
            f"max_length={self._max_length}, long_documents={self._long_documents!r})"
        )

    def _key(self) -> Hashable:
        return (LocalScorer, self._source_key(), self._dtype, self._device)

    def check_installed(self) -> None:
        """Check now, and not at the first call, that the packages are installed; none is imported.

        Raises:
            ConfigurationError: A package that loading needs is missing.
        """
        check_installed(("torch", "tokenizers", "safetensors"), LOCAL_MODEL, "local")
        if self._source is None:
            embedded_model_folder()
        elif not Path(self._source).expanduser().is_dir():
            check_installed(("huggingface_hub",), "a model of the hub", "local")

    def _load(self) -> PairModel:
        try:
            import_torch()
            from ..encoders import EncoderModel, read_checkpoint, read_tokenizer
        except ImportError as error:
            raise missing(error.name, LOCAL_MODEL, "local") from error
        started = time.perf_counter()
        device = choose_device(self._device)
        dtype = choose_dtype(self._dtype, device)
        int8 = self._dtype == "int8"
        if int8:
            check_int8(device)
        files = find_model(self._source, revision=self._revision)
        # Identified before they are read, since they may be overwritten meanwhile.
        weights = find_weights(self._source, self._revision)
        checkpoint = read_checkpoint(files)
        tokenizer = read_tokenizer(checkpoint)
        model = EncoderModel.from_pretrained(files.config.parent, dtype=dtype).to(device)
        forward, batch_tokens = _engine(model, device, dtype, int8=int8)
        computed_in = "int8" if int8 else str(dtype).removeprefix("torch.")
        logger.info(
            "loaded %s on %s in %s, %.2f s",
            self.model,
            device,
            computed_in,
            time.perf_counter() - started,
        )
        facts = facts_of(checkpoint, computed_in)
        return _EncoderPairs(
            forward, batch_tokens, tokenizer, facts.max_tokens, device, weights, facts
        )


def _engine(
    model: EncoderModel, device: str, dtype: torch.dtype, *, int8: bool
) -> tuple[Forward, int]:
    """Choose the engine for a model, and the number of tokens in its batches."""
    import torch

    if device == "cpu":
        from ..encoders.cpu import CpuEngine

        cpu = CpuEngine(model, int8=int8)
        return cpu, cpu.batch_tokens
    if device.startswith("cuda") and dtype is torch.bfloat16:
        # Imported only here: FlexAttention makes torch import its compiler.
        from ..encoders.gpu import GpuEngine

        gpu = GpuEngine(model)
        return gpu, gpu.batch_tokens
    return model.forward_packed, TOKENS_PER_BATCH


@dataclass(slots=True)
class _EncoderPairs:
    """An encoder as a `PairModel`."""

    forward: Forward
    batch_tokens: int
    tokenizer: PairTokenizer
    max_length: int
    device: str
    weights: Weights
    facts: ModelFacts

    def logits(self, pairs: Sequence[TokenPair]) -> list[float]:
        import torch

        ids = torch.cat([torch.frombuffer(p.input_ids, dtype=torch.int32) for p in pairs])
        types = torch.cat([torch.frombuffer(p.token_type_ids, dtype=torch.int32) for p in pairs])
        lengths = [len(pair) for pair in pairs]
        try:
            with torch.inference_mode():
                logits = self.forward(ids.to(self.device), lengths, types.to(self.device))
            return [float(logit) for logit in logits.tolist()]
        except RuntimeError as error:  # raised by torch, among others when memory runs out
            raise ScoringError(f"the model failed on {sum(lengths):,} tokens: {error}") from error


def find_model(
    model: Source, *, revision: str | None = None, local_files_only: bool = False
) -> CheckpointFiles:
    """Find the files that `LocalScorer` loads for a name, and download them if necessary.

    Args:
        model: As for `LocalScorer`.
        revision: As for `LocalScorer`.
        local_files_only: Whether to use only files that are on this machine.

    Raises:
        ModelLoadError: A file is missing, or cannot be downloaded.
        ConfigurationError: The name is blank, or a distribution is not installed.
    """
    from ..encoders.families import read_checkpoint
    from ..encoders.files import find_checkpoint

    source = find_source(model)
    return find_checkpoint(
        embedded_model_folder() if source is None else source,
        revision=revision,
        local_files_only=local_files_only,
        check=read_checkpoint,
    )
