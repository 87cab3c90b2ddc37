locals {
  day_seconds = 86400
}

resource "google_kms_key_ring" "airflow" {
  for_each = var.environments

  project  = each.value.kms_project
  location = each.value.location
  name     = "airflow-${each.key}"
}

resource "google_kms_crypto_key" "xcom" {
  for_each = var.environments

  name                       = "xcom"
  key_ring                   = google_kms_key_ring.airflow[each.key].id
  purpose                    = "ENCRYPT_DECRYPT"
  rotation_period            = "${90 * local.day_seconds}s"
  destroy_scheduled_duration = "${30 * local.day_seconds}s"

  version_template {
    algorithm        = "GOOGLE_SYMMETRIC_ENCRYPTION"
    protection_level = each.value.protection_level
  }

  # A key that is gone takes every value with it.
  lifecycle {
    prevent_destroy = true
  }
}

resource "google_kms_crypto_key_iam_member" "tasks" {
  for_each = var.environments

  crypto_key_id = google_kms_crypto_key.xcom[each.key].id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${each.value.service_account}"
}

resource "google_storage_bucket" "xcom" {
  for_each = var.environments

  project                     = each.value.project
  name                        = each.value.bucket
  location                    = each.value.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * local.day_seconds
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = var.row_retention_days + 10
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_storage_bucket_iam_member" "tasks" {
  for_each = var.environments

  bucket = google_storage_bucket.xcom[each.key].name
  role   = "roles/storage.objectUser"
  member = "serviceAccount:${each.value.service_account}"
}

resource "google_logging_project_sink" "audit" {
  for_each = { for name, environment in var.environments : name => environment if var.audit_bucket != null }

  project                = each.value.project
  name                   = "secure-xcom-${each.key}"
  destination            = "storage.googleapis.com/${var.audit_bucket}"
  unique_writer_identity = true

  # The lines of the logger secure_xcom.audit, by texts that each of them has.
  filter = join(" ", [
    "resource.type=\"cloud_composer_environment\"",
    "resource.labels.environment_name=\"${each.value.environment}\"",
    "\"kek_version\" \"sealed_bytes\" \"operation\"",
  ])
}

resource "google_storage_bucket_iam_member" "audit" {
  for_each = google_logging_project_sink.audit

  bucket = var.audit_bucket
  role   = "roles/storage.objectCreator"
  member = each.value.writer_identity
}
