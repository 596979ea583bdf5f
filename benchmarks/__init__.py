"""Measurements that the documents quote; each is one command."""
