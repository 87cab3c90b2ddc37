"""What runs inside an Airflow of each version is not collected out here."""

from __future__ import annotations

collect_ignore = ["dags", "inside"]
