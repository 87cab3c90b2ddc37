"""What Google's credentials and their errors say, for keys and for stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.auth.exceptions import GoogleAuthError

#: Stands in a command for who needs a role, where the credentials do not say it.
NO_MEMBER = "serviceAccount:ACCOUNT"


def member(credentials: object) -> str:
    """Who has these credentials, as IAM names it; `NO_MEMBER` where they do not say it."""
    # The metadata server's are called `default` until it has been asked.
    email = getattr(credentials, "service_account_email", "")
    if isinstance(email, str) and "@" in email:
        return f"serviceAccount:{email}"
    account = getattr(credentials, "account", "")
    return f"user:{account}" if isinstance(account, str) and "@" in account else NO_MEMBER


def may_refresh(error: GoogleAuthError) -> bool:
    """Whether credentials that could not be had may be had a little later."""
    # By name: older versions of google-auth have not all of them.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(getattr(error, "retryable", False)) or bool(
        kinds & {"TransportError", "TimeoutError", "ResponseError"}
    )


def about_credentials(error: GoogleAuthError, again: str = "") -> str:
    """What failed, in words that can stand behind a colon, and what to do.

    Args:
        error: what the credentials raised.
        again: how often they were asked, if it is to be said.
    """
    said = f"The credentials said: {' '.join(str(error).split())[:300]}"
    if may_refresh(error):
        return f"the token service or the metadata server is out of reach{again}. {said}"
    return (
        "the worker has no usable credentials. On Composer the environment's service account is "
        "used; elsewhere set up application default credentials, or a connection by "
        f"`gcp_conn_id`. {said}"
    )
