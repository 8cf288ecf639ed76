"""`Lease`: shared ownership of a model, or of connections, by a compressor and its copies."""

from __future__ import annotations

from weakref import WeakSet

from jina_rerank import ConfigurationError, Reranker


class Lease:
    """One compressor's reference to a reranker, which its copies may share.

    A chain makes a copy for each call with another `top_n`. With separate connections, each copy
    would need a new TLS handshake.

    Args:
        reranker: The reranker; None for a released lease.
        holders: All leases of the reranker that have not been released, as weak references.
    """

    def __init__(self, reranker: Reranker | None, holders: WeakSet[Lease] | None = None) -> None:
        self._reranker = reranker
        self._holders: WeakSet[Lease] = WeakSet() if holders is None else holders
        self._holders.add(self)

    @property
    def is_open(self) -> bool:
        """True until the lease is released."""
        return self._reranker is not None

    @property
    def reranker(self) -> Reranker:
        """The reranker.

        Raises:
            ConfigurationError: The lease has been released.
        """
        if self._reranker is None:
            raise ConfigurationError("this JinaRerank is closed; make a new one")
        return self._reranker

    def share(self) -> Lease:
        """Create another lease of the same reranker."""
        return Lease(self.reranker, self._holders)

    def let_go(self) -> Reranker | None:
        """Release the reranker; return it, to be closed, if this was its last lease."""
        reranker, self._reranker = self._reranker, None
        self._holders.discard(self)
        return None if len(self._holders) else reranker

    def __reduce__(self) -> tuple[type[Lease], tuple[Reranker | None]]:
        # A lease from a pickle has a new reranker, which no other lease shares.
        return type(self), (self._reranker,)
