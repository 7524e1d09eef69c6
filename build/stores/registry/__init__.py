"""A registry, by the OCI distribution spec 1.1: exchange, authentication, TLS and retries. No other store is here."""
