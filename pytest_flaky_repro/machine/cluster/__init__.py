"""Trials on the workers of a Dask cluster (``--repro-dask``).

The client's side is ``machine``, ``crew`` and ``attempt``; what runs on a worker is ``workshop``,
``images`` and ``recipe``. Only ``connection`` and ``workshop`` import Dask.
"""
