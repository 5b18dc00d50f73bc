"""Campaigns: a stream of trials of one experiment, until something can be said."""
