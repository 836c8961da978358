"""Runs where Keras is: networks of one layer, saved, and what they do to an input in training mode.

``python training_maker.py FOLDER CASES.json``: cases are [name, expression, shape]; for each ``NAME.keras`` and
``NAME.npz`` with ``x`` and ``y`` are written.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def main() -> None:
    """Make all cases."""
    import keras  # pyright: ignore[reportMissingImports]
    import numpy as np

    folder = Path(sys.argv[1])
    for name, expression, shape in json.loads(Path(sys.argv[2]).read_text()):
        keras.utils.set_random_seed(0)
        x = keras.Input(shape[1:])
        # the expression is the test's own
        model = keras.Model(x, eval(expression, {"L": keras.layers})(x))
        model.save(folder / f"{name}.keras")
        values = np.random.default_rng(1).random(shape, np.float32)
        np.savez(folder / f"{name}.npz", x=values, y=np.asarray(model(values, training=True)))


if __name__ == "__main__":
    main()
