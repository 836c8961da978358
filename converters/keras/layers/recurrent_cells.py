"""Recurrent cells as settings say them: LSTM, GRU and simple ones of every generation, and their variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netferry.converters.keras.config import Config
from netferry.converters.keras.layers.activation import activation_name
from netferry.converters.keras.registry import Slot, Unreadable
from netferry.converters.keras.spec import Spec, snake_case
from netferry.errors import MalformedFile, quoted

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""ONNX operator -> number of gates."""
KINDS = {
    "LSTM": "LSTM", "LSTMCell": "LSTM", "CuDNNLSTM": "LSTM", "GRU": "GRU", "GRUCell": "GRU", "CuDNNGRU": "GRU",
    "SimpleRNN": "RNN", "SimpleRNNCell": "RNN",
}  # fmt: skip
_SPLIT = {"LSTM": "icfo", "GRU": "zrh"}
"""Keras 1 keeps a kernel, a recurrent kernel and a bias per gate, in this order."""
_TRAINING = ("dropout", "recurrent_dropout", "dropout_W", "dropout_U", "unit_forget_bias", "implementation", "seed",
             "consume_less", "input_dim", "input_length", "use_cudnn", "state_size")  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        kind: LSTM, GRU or RNN, as ONNX calls them.
        units: size of the state.
        activation, gate_activation: as the settings name them.
        biased: whether there are biases.
        reset_after: GRU: whether the reset gate acts on the product with the recurrent kernel.
        form: ``plain`` (gates side by side), ``cudnn`` (each gate's matrix as cuDNN reads it), ``split`` (Keras 1).
        path: where its variables lie below the layer (``cell/``).
        trainable: whether it learns, whatever the layer around it does.
    """

    kind: str
    units: int
    activation: Any
    gate_activation: Any
    biased: bool
    reset_after: bool
    form: str
    path: str
    trainable: bool

    @property
    def states(self) -> int:
        """Number of state tensors."""
        return 2 if self.kind == "LSTM" else 1

    @property
    def bias_size(self) -> int:
        """Elements of all its biases."""
        doubled = self.form == "cudnn" or (self.kind == "GRU" and self.reset_after)
        return GATES[self.kind] * self.units * (2 if doubled else 1)

    @property
    def double_bias(self) -> bool:
        """Whether input and recurrent kernel have a bias each."""
        return self.bias_size == 2 * GATES[self.kind] * self.units


def cells_of(kind: str, config: Config, generation: int, path: str, trainable: bool = True) -> list[Cell]:
    """Return the cells of a recurrent layer or cell of class ``kind`` whose variables lie at ``path``.

    What does not learn (``trainable``) is handed down to the cells within, but not by Keras 3.

    Raises:
        Unreadable: a cell is of a class that netferry does not know.
    """
    around = kind in ("RNN", "StackedRNNCells")
    trainable = trainable and ((around and generation == 3) or config.raw.get("trainable", True) is not False)
    if kind == "RNN":
        raw = config.take("cell")
        inner, settings = _object(raw, config.layer)
        return cells_of(inner, Config(settings, config.layer), generation, f"{path}cell/", trainable)
    if kind == "StackedRNNCells":
        raws = config.take("cells")
        if not isinstance(raws, list) or not raws:
            raise config.bad("cells", raws, "a list of cells")
        used: dict[str, int] = {}
        cells: list[Cell] = []
        for raw in raws:
            inner, settings = _object(raw, config.layer)
            base = snake_case(inner)
            used[base] = used.get(base, -1) + 1
            key = base if used[base] == 0 else f"{base}_{used[base]}"
            cells += cells_of(inner, Config(settings, config.layer), generation, f"{path}cells/{key}/", trainable)
        return cells
    if kind not in KINDS:
        raise Unreadable(f"a recurrent network around a cell of class {quoted(kind)}")
    return [_cell(kind, config, generation, path, trainable)]


def _object(raw: Any, where: str) -> tuple[str, dict[str, Any]]:
    if (
        not isinstance(raw, dict)
        or not isinstance(raw.get("class_name"), str)
        or not isinstance(raw.get("config"), dict)
    ):
        raise MalformedFile(f"not a cell: {quoted(raw, 80)}", layer=where)
    kind = raw["class_name"].rsplit(">", 1)[-1]
    if kind in KINDS and not kind.endswith("Cell"):
        raise MalformedFile(f"a cell is wanted, {quoted(kind)} is a layer", layer=where)
    return kind, raw["config"]


def _cell(kind: str, config: Config, generation: int, path: str, trainable: bool) -> Cell:
    op = KINDS[kind]
    cudnn = kind.startswith("CuDNN")
    if not kind.endswith("Cell") and not cudnn:
        path += "cell/"
    config.ignore(*_TRAINING)
    units = config.integer("units", least=1, also=("output_dim",))
    old = "hard_sigmoid" if generation <= 2 else "sigmoid"
    split = generation == 1 and op in _SPLIT and config.take("consume_less", "cpu") != "gpu"
    return Cell(
        op,
        units,
        "tanh" if cudnn else config.take("activation", "tanh"),
        "sigmoid" if cudnn else config.take("recurrent_activation", old, also=("inner_activation",)),
        config.flag("use_bias", True),
        cudnn or (op == "GRU" and config.flag("reset_after", generation == 3)),
        "cudnn" if cudnn else "split" if split else "plain",
        path,
        trainable,
    )


def cell_slots(cells: Sequence[Cell]) -> list[Slot]:
    """Return the variables of cells in the order of their creation."""
    found: list[Slot] = []
    for cell in cells:
        if cell.form == "split":
            found += [Slot(f"{cell.path}{what}_{gate}", cell.trainable) for gate in _SPLIT[cell.kind] for what in "WUb"]
        else:
            names = ("kernel", "recurrent_kernel", "bias")[: 3 if cell.biased else 2]
            found += [Slot(cell.path + name, cell.trainable) for name in names]
    return found


def layer_slots(spec: Spec) -> list[Slot]:
    """Return the variables of a recurrent layer or cell; none where its cell cannot be read."""
    try:
        return cell_slots(cells_of(spec.type, Config(spec.config, spec.name), spec.generation, ""))
    except Unreadable:
        return []


def onnx_activation(value: Any, generation: int) -> tuple[str, float | None, float | None] | None:
    """Return (name, alpha, beta) of an activation of ONNX's recurrent operators, or None where they have none."""
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        return None
    name = activation_name(value)
    if name == "hard_sigmoid":
        return ("HardSigmoid", 0.2 if generation <= 2 else 1 / 6, 0.5)
    return _ONNX.get(name)


_ONNX: dict[str, tuple[str, float | None, float | None]] = {
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "relu": ("Relu", None, None),
    "linear": ("Affine", 1.0, 0.0),
    "softsign": ("Softsign", None, None),
    "softplus": ("Softplus", None, None),
    "elu": ("Elu", 1.0, None),
    "leaky_relu": ("LeakyRelu", 0.2, None),
    "sparse_sigmoid": ("HardSigmoid", 0.5, 0.5),
}
"""Affine is activation_alpha * x + activation_beta."""
