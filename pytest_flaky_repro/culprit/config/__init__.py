"""Which configuration options make a kernel crash."""
