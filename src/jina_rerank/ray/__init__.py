"""Scaling beyond one process with Ray: the service on Ray Serve, offline scoring on Ray Data.

`application` is `jina-rerank serve` in as many processes as the load needs; `build` is the same for
a Serve config file. `rerank_dataset` scores millions of rows in Parquet files. Requires the extra
`ray`.
"""

import warnings

from .._installed import missing

try:
    with warnings.catch_warnings():
        # Ray's use of pydantic causes these warnings while it is imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        from .dataset import rerank_dataset
        from .serving import application, build
except ImportError as error:
    raise missing(error.name, __name__, "ray") from error

__all__ = ["application", "build", "rerank_dataset"]
