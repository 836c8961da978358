"""From items to a session's inputs: the recipe found, pictures and arrays turned into tensors, batches put together.

For serving: imports numpy, Pillow and onnxruntime, never onnx, onnx_ir nor torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from netferry.errors import MalformedFile, NetferryError, OutOfMemory, UsageError, quoted
from netferry.runtime.data import Item
from netferry.runtime.ports import PREPROCESSING_KEY, SOURCE_KEY, metadata_of, picture_input, size_of
from netferry.runtime.preprocess import preprocess
from netferry.runtime.session import Port, Session
from netferry.runtime.sounds import read_sound, run_sound, sound_input
from netferry.schemas.preprocessing import COLORS, Preprocessing

Tensors = dict[str, np.ndarray]
"""A value for each input; of one item (no batch dimension), or of a batch."""


class Means(dict[str, np.ndarray]):
    """Outputs of one sound: the means over its patches. ``patches``: the outputs of each, patches first."""

    def __init__(self, patches: Tensors) -> None:
        super().__init__({name: a.mean(0, keepdims=True) for name, a in patches.items()})
        self.patches = patches


class Feed:
    """What a network wants to be fed with, and how an item becomes that. May be shared between threads.

    Attributes:
        picture: the input that takes pictures; None where there is none, then only arrays can be fed.
        recipe: how pictures become that input; ``recipe_from`` says whose it is: ``caller``, ``model`` or ``assumed``
            (the model carries none: plain 0..255 values resized to the input; grey, RGB, or Caffe's own BGR).
        size: height and width of that input, None where dynamic.
        batch: the batch size that the network fixes, or None.
        sound: the input that takes a waveform or its patches, and the recipe; None where there is none. The patches are
            the network's batch: a sound goes through alone, and its values are the mean of its patches'.
        most: the largest batch that the memory took, where it did not take all; ``notes`` say so.
    """

    def __init__(
        self, session: Session, preprocessing: Preprocessing | None = None, changes: dict[str, Any] | None = None
    ) -> None:
        self.session = session
        self.most: int | None = None
        self.notes: list[str] = []
        recipes = metadata_of(session, PREPROCESSING_KEY)
        self.picture: Port | None = None
        self.recipe, self.recipe_from = Preprocessing(), "assumed"
        self.size: tuple[int | None, int | None] = (None, None)
        self._refusal: UsageError | None = None
        self.sound = sound_input(session)
        first = session.inputs[0].shape[:1] if session.inputs else ()
        self.batch = first[0] if first and isinstance(first[0], int) else None
        if self.sound is not None:
            self.recipe_from = "model"
            self._refusal = UsageError("the network reads sounds, no pictures", file=session.file)
            return
        try:
            self.picture = picture_input(session, recipes)
        except UsageError as error:
            self._refusal = error  # arrays may still be fed
            return
        self.recipe, self.recipe_from = self._recipe(self.picture, preprocessing, recipes.get(self.picture.name))
        if changes:
            self.recipe, self.recipe_from = self.recipe.with_(**changes), "caller"
        self.size = size_of(self.picture, self.recipe.layout)
        self._check_channels(self.picture)

    def _recipe(self, port: Port, given: Preprocessing | None, carried: Any) -> tuple[Preprocessing, str]:
        if given is not None:
            return given, "caller"
        if carried is not None:
            try:
                return Preprocessing.from_dict(carried), "model"
            except MalformedFile as error:
                raise error.at(file=self.session.file, layer=port.name) from None
        layout = "NHWC" if port.shape[3] in (1, 3) and port.shape[1] not in (1, 3) else "NCHW"
        channels = port.shape[3] if layout == "NHWC" else port.shape[1]
        order = "BGR" if metadata_of(self.session, SOURCE_KEY).get("format") == "caffe" else "RGB"
        return Preprocessing(color="GRAY" if channels == 1 else order, layout=layout), "assumed"

    def _check_channels(self, port: Port) -> None:
        channels = port.shape[3 if self.recipe.layout == "NHWC" else 1]
        if isinstance(channels, int) and channels != COLORS[self.recipe.color]:
            raise UsageError(
                f"input {port} has {channels} channels, but the recipe makes {self.recipe.color} pictures "
                f"({self.recipe.layout})",
                file=self.session.file,
                hint="choose the color (RGB, BGR, GRAY) and layout (NCHW, NHWC) that the model was trained with",
            )

    def __call__(self, item: Item) -> Tensors:
        """Return the inputs of one item, without the batch dimension, of the inputs' element types.

        Raises:
            InputError, LimitExceeded: the picture cannot be read.
            UsageError: the network takes no pictures; an array that does not fit.
        """
        if isinstance(item.source, dict):
            return {port.name: self._fitted(port, item.source.get(port.name), item) for port in self.session.inputs}
        if item.ready:
            if len(self.session.inputs) != 1:
                raise UsageError(
                    f"the network has {len(self.session.inputs)} inputs, the data one array",
                    file=item.id,
                    hint="a .npz or HDF5 file with an array called like each input feeds them all",
                )
            port = self.session.inputs[0]
            return {port.name: self._fitted(port, np.asarray(item.source), item)}
        try:
            if self.sound is not None:
                return {self.sound[0]: read_sound(item.source, self.sound[1].sample_rate)}
            if self.picture is None:
                assert self._refusal is not None
                raise self._refusal
            array = preprocess(item.source, self.recipe, self.size)
        except NetferryError as error:  # what lies in a tar or a table has no name of its own
            raise error.at(file=item.id) from error.__cause__
        wanted = self.picture.numpy
        if wanted == np.uint8:
            array = np.clip(np.round(array), 0, 255)
        return {self.picture.name: array if wanted is None else array.astype(wanted, copy=False)}

    def _fitted(self, port: Port, array: np.ndarray | None, item: Item) -> np.ndarray:
        if array is None:
            raise UsageError(f"no values for input {port}", file=item.id)
        wanted = port.numpy
        if wanted is not None and array.dtype != wanted:
            if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and wanted.kind != "f"):
                raise UsageError(f"input {port}: the array is of {array.dtype}", file=item.id)
            array = array.astype(wanted)
        if self.sound is not None and port.name == self.sound[0] and array.ndim == 1:
            return array  # samples at the recipe's rate
        dims = port.shape[1:]
        if port.shape and (
            len(dims) != array.ndim
            or any(isinstance(d, int) and d != n for d, n in zip(dims, array.shape, strict=True))
        ):
            raise UsageError(
                f"input {port}: an item of the data is of shape {list(array.shape)}",
                file=item.id,
                hint="" if self.picture is None else "where it is a picture: --arrays picture",
            )
        return array

    def batches(self, values: Sequence[Tensors]) -> Iterator[tuple[list[int], Tensors]]:
        """Yield (positions, inputs) for items that go through the network together: one batch, unless the items have
        different shapes or the network fixes a smaller batch; a fixed batch is filled up with zeros."""
        groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for position, tensors in enumerate(values):
            groups.setdefault(tuple(t.shape for t in tensors.values()), []).append(position)
        for members in groups.values():
            step = self.batch or len(members)
            for start in range(0, len(members), step):
                chosen = members[start : start + step]
                yield chosen, {name: self._stacked(name, chosen, values) for name in values[chosen[0]]}

    def _stacked(self, name: str, members: Sequence[int], values: Sequence[Tensors]) -> np.ndarray:
        first = values[members[0]][name]
        out = np.empty((self.batch or len(members), *first.shape), first.dtype)
        for row, position in enumerate(members):
            out[row] = values[position][name]
        out[len(members) :] = 0
        return out

    def run(self, values: Sequence[Tensors], outputs: Sequence[str]) -> Iterator[tuple[list[int], Tensors]]:
        """Yield (positions, outputs) for the items' inputs; every output's first axis counts those positions.

        Raises:
            UsageError: an output does not have a row for each item.
            OutOfMemory: not even for one item.
            CheckFailed: the run failed.
        """
        alone = [n for n, tensors in enumerate(values) if self._is_waveform(tensors)]
        for position in alone:
            assert self.sound is not None
            yield [position], Means(run_sound(self.session, values[position][self.sound[0]], outputs))
        others = [n for n in range(len(values)) if n not in alone]
        for members, made in self._run_together([values[n] for n in others], outputs):
            yield [others[m] for m in members], made

    def _is_waveform(self, tensors: Tensors) -> bool:
        return self.sound is not None and tensors[self.sound[0]].ndim == 1

    def _run_together(self, values: Sequence[Tensors], outputs: Sequence[str]) -> Iterator[tuple[list[int], Tensors]]:
        for members, inputs in self.batches(values):
            start = 0
            while start < len(members):
                stop = len(members) if self.batch else min(start + (self.most or len(members)), len(members))
                whole = self.batch is not None or stop - start == len(members)
                fed = inputs if whole else {name: array[start:stop] for name, array in inputs.items()}
                try:
                    made = self.session.run(fed, outputs)
                except OutOfMemory:
                    self._halve(stop - start)
                    continue
                self._check_rows(made, len(next(iter(fed.values()))))
                yield members[start:stop], {name: array[: stop - start] for name, array in made.items()}
                start = stop

    def _halve(self, size: int) -> None:
        """Go on with batches of half the size, and say so; raises again where that cannot be."""
        half = size // 2
        if self.batch is not None or half == 0:
            raise  # noqa: PLE0704 - the OutOfMemory that is being handled
        self.most = half
        self.notes.append(f"out of memory at {size} items: batches of {half} from here on")

    def _check_rows(self, made: Tensors, fed: int) -> None:
        for name, array in made.items():
            if not isinstance(array, np.ndarray) or not array.ndim or array.shape[0] != fed:
                shape = list(array.shape) if isinstance(array, np.ndarray) else type(array).__name__
                raise UsageError(
                    f"output {quoted(name)} has no row for each item: {fed} items gave {shape}", file=self.session.file
                )
