"""Operator links, which Airflow's servers make of XComs, often without the key.

A link that cannot be made is no link. Airflow 2 would fail the whole list of them with status 500,
and Airflow 3 lead to the sealed row, as text.
"""
# ruff: noqa: ANN401 - Airflow's own objects, of whatever version

from __future__ import annotations

import functools
import logging
from typing import Any

from secure_xcom.airflow import versions
from secure_xcom.airflow.when_loaded import when_loaded
from secure_xcom.errors import SecureXComError
from secure_xcom.format.reference import STATE_TAG, TAG

log = logging.getLogger("secure_xcom")


def install() -> None:
    """Have links that cannot be opened left out, now or once Airflow loads what makes them."""
    for place in versions.makers_of_links():
        when_loaded(place.module, place.owner, functools.partial(_bind, place))


def _bind(place: versions.LinkMaker, module: Any) -> None:
    owner = getattr(module, place.owner, None)
    airflows = getattr(owner, place.name, None)
    if airflows is None or hasattr(airflows, "__wrapped__"):
        return

    @functools.wraps(airflows)
    def make(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            link = airflows(self, *args, **kwargs)
        except SecureXComError as error:
            log.warning(
                "An operator link is left out: its XCom could not be opened here (%s).",
                type(error).__name__,
            )
            return place.none
        is_row = isinstance(link, str) and (TAG in link or STATE_TAG in link)
        return place.none if is_row else link

    setattr(owner, place.name, make)
