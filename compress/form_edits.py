"""The edits of layers that compute by their own arithmetic: hashed weights, Fastfood, product quantization."""

from __future__ import annotations
