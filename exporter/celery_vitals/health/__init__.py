"""The verdict: what is wrong with the cluster, and what to do.

It knows the last results and the settings only: it uses no network, and no clock of its own.
"""
