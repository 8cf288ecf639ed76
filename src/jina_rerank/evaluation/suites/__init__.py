"""The three measurements of Jina's announcement of jina-reranker-v1 turbo and tiny.

    >>> from jina_rerank.evaluation.suites import SUITES
    >>> {name: len(suite.sets) for name, suite in SUITES.items()}
    {'beir': 17, 'loco': 5, 'llamaindex-rag': 0}

Needs the extra `eval`, and `llamaindex-rag` the extra `eval-rag`. The command is
`jina-rerank eval --suite NAME`.
"""

from .published import PUBLISHED, Published
from .report import suite_markdown, suite_tables, write_suite
from .run import SuiteResult, run_rag_suite, run_suite
from .sets import SUITES, Suite, SuiteSet

__all__ = [
    "PUBLISHED",
    "SUITES",
    "Published",
    "Suite",
    "SuiteResult",
    "SuiteSet",
    "run_rag_suite",
    "run_suite",
    "suite_markdown",
    "suite_tables",
    "write_suite",
]
