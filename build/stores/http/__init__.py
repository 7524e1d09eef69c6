"""How registries are reached: connections, TLS, proxies, retries, failures in words; what is asked is `registry`'s."""
