"""Transports: what protocols talk to. Each knows the loop's core and its commands only."""
