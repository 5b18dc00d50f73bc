"""Which commit makes it crash."""
