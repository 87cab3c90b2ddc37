variable "environments" {
  description = "The Composer environments, by the name that each has as a deployment (`instance`)."
  type = map(object({
    # The environment's own name, where it runs, and the account that its tasks run under.
    environment     = string
    project         = string
    location        = string
    service_account = string
    # The bucket for large values. Names of buckets are unique in the world.
    bucket = string
    # Where the key lives; a project of its own keeps the key's administrators apart.
    kms_project      = string
    protection_level = optional(string, "SOFTWARE")
    # What else goes into airflow.cfg [secure_xcom], such as { strict = "true" }.
    settings = optional(map(string), {})
  }))

  validation {
    condition = alltrue([
      for environment in values(var.environments) :
      contains(["SOFTWARE", "HSM"], environment.protection_level)
    ])
    error_message = "protection_level is SOFTWARE or HSM."
  }
}

variable "row_retention_days" {
  description = "How long the metadata database keeps rows; objects are deleted ten days after."
  type        = number
  default     = 60
}

variable "soft_delete_days" {
  description = "How long deleted objects can be restored: as long as backups of the database are kept."
  type        = number
  default     = 7
}

variable "audit_bucket" {
  description = "An existing bucket that audit lines are copied to; null for no copy."
  type        = string
  default     = null
}
