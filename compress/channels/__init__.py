"""Structured passes on whole channels: ``narrow`` removes them, ``merge`` joins similar ones."""
