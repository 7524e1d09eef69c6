"""Keys that sign, and that verify: files, variables, and what a KMS or an HSM holds."""
