"""Every error that this package raises.

    SecureXComError
    ├── ConfigError               a setting is missing, wrong or not allowed
    ├── CodecError                a value cannot be encoded, or its codec is not installed here
    ├── FormatError               bytes or a row that do not have the shape of the format
    ├── UnsealedError             a row that the backend did not seal, refused by policy
    ├── AuthenticationError       tag, commitment, truncation, context: it is not what was sealed
    ├── KeyServiceError           the key service did not do what was asked
    │   ├── KeyAccessDenied       a permission on the key is missing
    │   └── KeyUnavailable        disabled, destroyed, missing, out of quota or out of reach
    └── StoreError                the object store did not do what was asked
        ├── ObjectNotFound
        ├── StoreAccessDenied
        └── StoreUnavailable

All derive from `Exception` alone, because Airflow catches `ValueError` and `TypeError` in places
where a failed read must not pass. Messages name things (settings, keys, objects, permissions) and
never contents.
"""


class SecureXComError(Exception):
    """The root of the tree."""


class ConfigError(SecureXComError):
    """A setting is missing, wrong or not allowed."""


class CodecError(SecureXComError):
    """A value cannot be encoded or decoded; the message names path and type, never contents."""


class FormatError(SecureXComError):
    """The bytes or the row do not have the shape that `docs/format.md` prescribes."""


class UnsealedError(SecureXComError):
    """The row was not sealed by this backend, and `unsealed_reads` refuses such rows."""


class AuthenticationError(SecureXComError):
    """The value is not what was sealed for this place: altered, truncated or moved.

    One class and one message for every cause, so that an attacker learns nothing from the
    difference.
    """

    def __init__(
        self,
        message: str = (
            "The sealed value could not be authenticated: it was altered, truncated, or does not "
            "belong to this XCom. Treat the row and its object as tampered with; clear the task "
            "that wrote it to produce the value again."
        ),
    ) -> None:
        super().__init__(message)


class KeyServiceError(SecureXComError):
    """The key service did not wrap or unwrap a data key."""


class KeyAccessDenied(KeyServiceError):
    """The caller lacks a permission on the key."""


class KeyUnavailable(KeyServiceError):
    """The key is disabled, destroyed, missing, over quota, or the service is out of reach."""


class StoreError(SecureXComError):
    """The object store did not do what was asked."""


class ObjectNotFound(StoreError):
    """The referenced object does not exist."""


class StoreAccessDenied(StoreError):
    """The caller lacks a permission on the bucket or directory."""


class StoreUnavailable(StoreError):
    """The store is out of reach or over quota, also after retries."""
