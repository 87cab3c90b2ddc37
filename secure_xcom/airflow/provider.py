"""What `airflow providers` and `airflow config list` learn about this package."""

from __future__ import annotations

from secure_xcom.settings import SECTION, TABLE, Setting


def get_provider_info() -> dict[str, object]:
    """Describe the provider by Airflow's `provider_info.schema.json`."""
    return {
        "package-name": "secure-xcom",
        "name": "Secure XCom",
        "description": "An XCom backend that seals every value on the worker.",
        # Airflow looks for it from 3.2 on, and passes it over before.
        "cli": ["secure_xcom.airflow.commands.get_commands"],
        "config": {
            SECTION: {
                "description": "Settings of the XCom backend SecureXComBackend.",
                "options": {row.name: _option(row) for row in TABLE},
            }
        },
    }


def _option(row: Setting) -> dict[str, object]:
    # No option has a default here, because Airflow would hand it out as if airflow.cfg set it:
    # that would lock the protected settings. The description names the real default.
    return {
        "description": (
            f"{row.description}\n\nDefault: {row.default_text}. Allowed: {row.kind.allowed}."
        ),
        "version_added": row.version_added,
        "type": row.kind.option_type,
        "example": row.example,
        "default": None,
    }
