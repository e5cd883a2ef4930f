"""Channels of layers and what is done to whole ones: ``narrow`` takes them out, ``merge`` joins those that compute nearly the same."""
