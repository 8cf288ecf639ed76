import inspect
import pickle

import pytest

from jina_rerank import InputError, RejectedInputError, RerankError, ServiceError, errors

ALL = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, RerankError)
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_pickles(kind: type[RerankError]) -> None:
    if issubclass(kind, InputError):
        error: RerankError = kind("top_n", "must be at least 1")
    elif issubclass(kind, ServiceError):
        error = kind("slow down", 429, "RATE", "req-1")
    else:
        error = kind("no such folder")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__


def test_the_tree_is_as_drawn() -> None:
    drawn = errors.__doc__ or ""
    for kind in ALL:
        assert kind.__name__ in drawn
    assert str(InputError("top_n", "is 0")) == "top_n: is 0"
    refused = RejectedInputError("too long", 422, argument="documents[3]")
    assert (refused.argument, refused.problem) == ("documents[3]", "too long")
    assert isinstance(InputError("a", "b"), ValueError)
    error = ServiceError("slow down", status=429, code="RATE", request_id="r")
    assert (str(error), error.status, error.code, error.request_id) == (
        "slow down",
        429,
        "RATE",
        "r",
    )
