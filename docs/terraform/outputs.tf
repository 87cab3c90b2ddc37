output "airflow_config_overrides" {
  description = "By deployment, what goes into software_config.airflow_config_overrides of its environment."
  value = {
    for name, environment in var.environments : name => merge(
      {
        "core-xcom_backend"           = "secure_xcom.airflow.backend.SecureXComBackend"
        "workers-state_store_backend" = "secure_xcom.airflow.state_store.SecureStateStoreBackend"
        "secure_xcom-kek_uri"         = "gcp-kms://${google_kms_crypto_key.xcom[name].id}"
        "secure_xcom-store_uri"       = "gs://${google_storage_bucket.xcom[name].name}/xcom"
        "secure_xcom-instance"        = name
      },
      { for setting, value in environment.settings : "secure_xcom-${setting}" => value },
    )
  }
}
