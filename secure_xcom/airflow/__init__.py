"""What speaks to Airflow: the backend, its settings, the provider and the policies."""
