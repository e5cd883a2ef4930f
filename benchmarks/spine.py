"""The spine, measured: a stranger's ResNet-20 becomes a 48-bit hash network, one small file, a bundle; two LeNets beside it.

    HASHPRESS_DATA=DIR python benchmarks/spine.py [--work DIR] [--only STAGE]

Stages keep their models in the work folder, so an interrupted run goes on. The figures go to ``results/spine.json``; README's
table is made from them by ``benchmarks/readme.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.latency import ...
