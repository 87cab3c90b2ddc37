"""What the rig has Airflow run: DAG files, copied into a DAGs folder, and their trigger."""
