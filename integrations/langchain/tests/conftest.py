"""A retriever of LangChain's kind that needs no index, for the tests of everything around it."""

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever


class ListRetriever(BaseRetriever):
    """Retrieves all its documents, whatever the query."""

    documents: list[Document]

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return list(self.documents)


@pytest.fixture
def documents():
    return [
        Document(id="a", page_content="grind the beans finely", metadata={"source": "a.md"}),
        Document(id="b", page_content="store roasted coffee beans dry", metadata={"page": 0}),
        Document(id="c", page_content="water at 94 degrees"),
    ]


@pytest.fixture
def retriever(documents):
    return ListRetriever(documents=documents)
