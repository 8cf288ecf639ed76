"""`Lease`: how a compressor and its copies share a model, or the connections to a service."""

from __future__ import annotations

from weakref import WeakSet

from jina_rerank import ConfigurationError, Reranker


class Lease:
    """One compressor's hold on a reranker that its copies may hold too.

    A chain makes a copy for each call that wants another `top_n`, and a pool of connections for
    each of those would be a new TLS handshake for each call.

    Args:
        reranker: What is held; None for nothing any more.
        holders: The leases on it that have not been let go. One that is garbage holds nothing.
    """

    def __init__(self, reranker: Reranker | None, holders: WeakSet[Lease] | None = None) -> None:
        self._reranker = reranker
        self._holders: WeakSet[Lease] = WeakSet() if holders is None else holders
        self._holders.add(self)

    @property
    def is_open(self) -> bool:
        """Tell whether it has not been let go."""
        return self._reranker is not None

    @property
    def reranker(self) -> Reranker:
        """The reranker that is held.

        Raises:
            ConfigurationError: It has been let go.
        """
        if self._reranker is None:
            raise ConfigurationError("this JinaRerank is closed; make a new one")
        return self._reranker

    def share(self) -> Lease:
        """Another hold on the same reranker."""
        return Lease(self.reranker, self._holders)

    def let_go(self) -> Reranker | None:
        """Hold it no longer; the reranker is returned, to be closed, if nobody else does."""
        reranker, self._reranker = self._reranker, None
        self._holders.discard(self)
        return None if len(self._holders) else reranker

    def __reduce__(self) -> tuple[type[Lease], tuple[Reranker | None]]:
        # What is read from a pickle is a reranker of its own, which nobody else holds.
        return type(self), (self._reranker,)
