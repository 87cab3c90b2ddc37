"""The trial rig: a throw-away Airflow, what runs on it, and a search through all it left."""
