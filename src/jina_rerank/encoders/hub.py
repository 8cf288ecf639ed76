"""A checkpoint's files on the Hugging Face hub, by its own library: the cache first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, get_session, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..errors import ModelLoadError, ModelNotFoundError

CONNECT_SECONDS = 10.0
"""Longest wait for the hub to answer at all."""


class HubModel:
    """One revision of one repository.

    Args:
        name: The hub id.
        revision: A branch, tag or commit; None for the main branch.
    """

    def __init__(self, name: str, revision: str | None) -> None:
        self._name = name
        self._revision = revision

    def cached(self, file: str) -> Path | None:
        """Find a file in the cache, without a request to the hub.

        Raises:
            HFValidationError: The hub does not allow such a name.
        """
        # hf_hub_download(local_files_only=True) would do the same, but also send a request of its
        # own to the hub.
        path = try_to_load_from_cache(self._name, file, revision=self._revision)
        return Path(path) if isinstance(path, str) else None

    def downloaded(self, file: str) -> Path | None:
        """Fetch or refresh a file in the cache; None if the hub has none of that name."""
        try:
            return Path(hf_hub_download(self._name, file, revision=self._revision))
        except LocalEntryNotFoundError:
            raise  # a subclass of the next, but it means that the hub cannot be reached
        except EntryNotFoundError:
            return None

    def check_online(self) -> None:
        """Fail at once if the hub cannot be reached.

        The hub's library retries for 25 seconds; one plain request of its own client, with the
        user's proxies and certificates, is faster.

        Raises:
            ModelLoadError: HF_HUB_OFFLINE is set, or the hub does not answer.
        """
        if constants.HF_HUB_OFFLINE:
            raise ModelLoadError(
                f"{self._name}: not in the cache, and HF_HUB_OFFLINE is set; {self._remedy()}"
            )
        try:
            get_session().head(constants.ENDPOINT, timeout=CONNECT_SECONDS)
        except Exception as error:  # its HTTP client, and so its errors, differ by version
            raise self._unreachable() from error

    @contextmanager
    def explained_errors(self) -> Iterator[None]:
        """Turn the hub library's errors into ours, with messages that say what to do.

        Raises:
            ModelLoadError: The hub cannot be reached, or does not give the file.
            ModelNotFoundError: It has no such model or revision, or allows no such name.
        """
        try:
            yield
        except HFValidationError as error:
            raise ModelNotFoundError(
                f"{self._name}: neither a folder nor a hub id; a hub id is ORGANIZATION/NAME"
            ) from error
        except RevisionNotFoundError as error:
            raise ModelNotFoundError(
                f"{self._name}: the hub has no revision {self._revision!r}"
            ) from error
        except RepositoryNotFoundError as error:
            raise ModelNotFoundError(
                f"{self._name}: neither a folder nor a model on the hub; if it is private, "
                "set HF_TOKEN"
            ) from error
        except (HfHubHTTPError, OSError) as error:
            raise self._unreachable() from error

    def _unreachable(self) -> ModelLoadError:
        return ModelLoadError(
            f"{self._name}: not in the cache, and {constants.ENDPOINT} cannot be reached; "
            f"{self._remedy()}"
        )

    def _remedy(self) -> str:
        revision = f" --revision {self._revision}" if self._revision else ""
        return (
            f"on a machine with a network run: hf download {self._name}{revision}, "
            "or pass a folder that holds the model"
        )
