"""Checks of settings in Haystack's own types and words."""

from haystack.utils import ComponentDevice

from jina_rerank import ConfigurationError
from jina_rerank.plugin import check_top_n, plain_number


def check_top_k(top_k: int | None) -> int | None:
    """Check that `top_k` is a whole number of at least 1, or None for all documents.

    Raises:
        ValueError: It is not; an `InputError`, except for a number below 1.
    """
    number = plain_number(top_k)
    # The exact message of all Haystack rankers, which existing code may match.
    if isinstance(number, int) and number <= 0:
        raise ValueError(f"top_k must be > 0, but got {number}")
    return check_top_n(number, "top_k")


def check_separator(separator: object) -> str:
    """Check that `embedding_separator` is a string.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(separator, str):
        raise ConfigurationError(
            f"embedding_separator must be a string, not {type(separator).__name__}"
        )
    return separator


def name_device(device: ComponentDevice | None) -> str:
    """Convert Haystack's device to the name that torch has for it.

    Raises:
        ConfigurationError: It is of another class, or stands for several devices.
    """
    # Not Haystack's default, which prefers Apple's GPU, where torch leaks memory and aborts.
    if device is None:
        return "auto"
    if not isinstance(device, ComponentDevice):
        raise ConfigurationError(
            f'device must be a ComponentDevice, such as ComponentDevice.from_str("cuda:0"), '
            f"not {type(device).__name__}"
        )
    try:
        return device.to_torch_str()
    except ValueError as error:
        raise ConfigurationError(f"device: a reranker runs on a single one; {error}") from error
