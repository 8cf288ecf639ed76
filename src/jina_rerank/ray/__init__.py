"""Past one machine: the service on Ray Serve, and offline scoring on Ray Data.

`application` is `jina-rerank serve` in as many processes as the load needs; `build` is the same for
a Serve config file. `rerank_dataset` scores Parquet by the million. Needs the extra `ray`.
"""

import warnings

from .._installed import missing

try:
    with warnings.catch_warnings():
        # Of what Ray itself does with pydantic, while it is imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        from .dataset import rerank_dataset
        from .serving import application, build
except ImportError as error:
    raise missing(error.name, __name__, 'pip install "jina-rerank[ray]"') from error

__all__ = ["application", "build", "rerank_dataset"]
