"""What `airflow providers` and `airflow config list` learn about this package."""

from __future__ import annotations


def get_provider_info() -> dict[str, object]:
    """The provider's description, by Airflow's `provider_info.schema.json`."""
    return {
        "package-name": "secure-xcom",
        "name": "Secure XCom",
        "description": "An XCom backend that seals every value on the worker.",
    }
