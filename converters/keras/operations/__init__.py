"""Raw operations in functional models, one file per family; importing this registers them all.

Keras 2 keeps them as ``TFOpLambda``, ``SlicingOpLambda`` and ``TensorFlowOpLayer`` (types ``tf.math.add``,
``raw.AddV2`` here), Keras 3 as operation nodes (types ``ops:Add``).
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in sorted(m.name for m in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")
