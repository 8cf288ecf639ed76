"""`CrossEncoderScorer`: any other reranker with one output, run by sentence-transformers."""

from __future__ import annotations

from collections.abc import Hashable
from os import PathLike, fspath
from typing import TYPE_CHECKING

from .._installed import check_installed, install_command, missing
from .._sentence_transformers import load_model
from ..embedded import find_other_source
from ..errors import ConfigurationError, ModelLoadError
from ._pair_model import PairModel
from ._torch import import_torch
from .base import LongDocuments
from .device import Dtype, choose_device, choose_dtype, refuse_int8
from .in_process import InProcessScorer
from .weights import find_weights

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

OTHERS = "CrossEncoderScorer"
OLDEST = (5, 5)
"""Oldest version of sentence-transformers that takes template settings for a single call."""


class CrossEncoderScorer(InProcessScorer):
    """Scores with models that sentence-transformers runs: mxbai-rerank v1, Qwen3-Reranker, others.

    Runs encoders with a classification head, module lists, and language models whose score is the
    logit of a token (`LogitScore`). Prompts and chat templates are the model's own.

    Behaves as `LocalScorer` does: the document is cut and never the query or the template, cut
    tokens are reported, and the event loop is never blocked. The logit is the result of the model's
    `predict` before its activation, and the score is the logit's sigmoid, whatever that activation
    is: scores of one model are the same natively and here. Needs sentence-transformers. Remote code
    is never run.

    Args:
        model: A folder or a hub id, of a model with one output and a fast tokenizer.
        dtype: As for `LocalScorer`, without `"int8"`.
        device: As for `LocalScorer`.
        max_length: As for `LocalScorer`; the model's own limit, often 512, applies.
        long_documents: As for `LocalScorer`.
        revision: A branch, tag or commit on the hub.

    Raises:
        ConfigurationError: An argument is out of range.
    """

    def __init__(
        self,
        model: str | PathLike[str],
        *,
        dtype: Dtype = "auto",
        device: str = "auto",
        max_length: int = 8192,
        long_documents: LongDocuments = "truncate",
        revision: str | None = None,
    ) -> None:
        refuse_int8(dtype)
        source = find_other_source(model)
        super().__init__(
            fspath(source),
            source=source,
            revision=revision,
            dtype=dtype,
            device=device,
            max_length=max_length,
            long_documents=long_documents,
        )

    def __repr__(self) -> str:
        return f"CrossEncoderScorer({self.model!r}, dtype={self._dtype!r}, device={self._device!r})"

    def _key(self) -> Hashable:
        return (CrossEncoderScorer, self._source_key(), self._dtype, self._device)

    def check_installed(self) -> None:
        """Check now, and not at the first call, that the packages are installed; none is imported.

        Raises:
            ConfigurationError: A package that loading needs is missing.
        """
        check_installed(("torch", "sentence_transformers"), OTHERS, "cross-encoder")

    def _load(self) -> PairModel:
        # Identified before they are read, since they may be overwritten meanwhile.
        weights = find_weights(self.model, self._revision)
        assert self._source is not None
        encoder, device = load_model(self._load_encoder, self._source, self._revision)
        # Identified afterwards if they had to be downloaded.
        weights = weights or find_weights(self.model, self._revision)
        # Imported only now: `_load_encoder` reports the packages that this import needs.
        from ._cross_encoder import CrossEncoderPairs, check_head

        check_head(encoder, self.model, self._stored_tensors())
        return CrossEncoderPairs(encoder, self.model, device, weights)

    def _stored_tensors(self) -> set[str] | None:
        """List the names of the checkpoint's tensors; None where they are not known."""
        from ..encoders.files import find_checkpoint

        assert self._source is not None
        try:
            return find_checkpoint(
                self._source, revision=self._revision, tokenizer=False, local_files_only=True
            ).tensor_names()
        except ModelLoadError:  # weights of a kind that only transformers reads
            return None

    def _load_encoder(self, name: str, offline: bool) -> tuple[CrossEncoder, str]:
        try:
            import_torch()
            from sentence_transformers import CrossEncoder, __version__
        except ImportError as error:
            raise missing(error.name, OTHERS, "cross-encoder") from error
        if tuple(map(int, __version__.split(".")[:2])) < OLDEST:
            raise ConfigurationError(
                f"{OTHERS} needs sentence-transformers {'.'.join(map(str, OLDEST))} or later, and "
                f"{__version__} is installed: {install_command('cross-encoder')}"
            )
        device = choose_device(self._device)
        encoder = CrossEncoder(
            name,
            device=device,
            revision=self._revision,
            trust_remote_code=False,
            local_files_only=offline,
            model_kwargs={"dtype": choose_dtype(self._dtype, device)},
        )
        return encoder, device
