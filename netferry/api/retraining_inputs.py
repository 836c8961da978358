"""What ``retrain`` is given, made ready: options, augmentation, preprocessing that fits the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from netferry.api.training_data import DataSets
from netferry.errors import UsageError

if TYPE_CHECKING:
    from netferry.runtime.training.augment import Augment
    from netferry.runtime.training.options import TrainOptions
    from netferry.runtime.training.sounds import SoundAugment
    from netferry.schemas.model import Model
    from netferry.schemas.sound import SoundRecipe


def augmentation(
    augment: Augment | SoundAugment | str | None, sets: DataSets, model: Model
) -> Augment | SoundAugment | None:
    """The changes that training pictures or sounds go through; None for none."""
    from netferry.runtime.training.augment import Augment, parse_augment
    from netferry.runtime.training.sounds import DEFAULT, SoundAugment, parse_sound_augment

    if sets.sound is not None:
        if isinstance(augment, Augment):
            raise UsageError("these are changes of pictures, the network reads sounds")
        if isinstance(augment, str):
            augment = DEFAULT if augment == "default" else parse_sound_augment(augment)
        return None if augment is None or augment.does_nothing else augment
    if isinstance(augment, SoundAugment):
        raise UsageError("these are changes of sounds, the network reads none")
    if not sets.pictures:
        if augment not in (None, "default", "none"):
            raise UsageError("augmentation is for pictures")
        return None
    if augment == "default":  # 30 pixels of 227, MATLAB's, and no larger a share of smaller pictures
        sides = [d for d in model.input_size[:2] if isinstance(d, int)]
        most = min(30, round(min(sides, default=227) * 30 / 227))
        augment = Augment(translate=(most, most))
    made = parse_augment(augment) if isinstance(augment, str) else augment
    return None if made is None or made.does_nothing else made


def read_sounds(model: Model) -> tuple[SoundRecipe, str] | None:
    """Take a sound network's front end off, in place: it learns from patches. See ``remove_front_end``."""
    from netferry.converters.waveform import remove_front_end

    return remove_front_end(model)


def with_front_end(model: Model, recipe: SoundRecipe, waveform: str) -> None:
    """Put the front end back, in place."""
    from netferry.converters.waveform import add_front_end

    add_front_end(model, recipe, waveform=waveform)


def check_input(model: Model, sets: DataSets) -> None:
    """A recipe for pictures, assumed where the model carries none; the arrays' shape."""
    if len(model.inputs) != 1:
        raise UsageError(f"training feeds one input, the network has {len(model.inputs)}")
    port = model.inputs[0]
    if not sets.pictures:
        given = sets.arrays[0][0].shape[1:]
        wanted = () if port.shape is None else port.shape[1:]
        fits = len(given) == len(wanted) and all(
            not isinstance(w, int) or w == g for g, w in zip(given, wanted, strict=True)
        )
        if not fits:
            raise UsageError(f"x has examples of shape {list(given)}, the network takes {list(wanted)}")
        return
    if sets.sound is None:
        assume_preprocessing(model)


def assume_preprocessing(model: Model) -> None:
    """Give a network that does not say how pictures become its input the plain recipe, with a note.

    Raises:
        UsageError: the recipe makes another number of channels than the network takes.
    """
    from netferry.schemas.model import Note
    from netferry.schemas.preprocessing import COLORS, Preprocessing

    port, (*_, channels) = model.inputs[0], model.input_size
    if port.name not in model.preprocessing:
        color = "GRAY" if channels == 1 else "BGR" if model.source.format == "caffe" else "RGB"
        shape = list(port.shape or ())
        layout = "NHWC" if shape[-1] in (1, 3) and shape[1] not in (1, 3) else "NCHW"
        model.preprocessing[port.name] = Preprocessing(color=color, layout=layout)
        text = (
            f"the network does not say how pictures become its input; {color} values 0..255, resized (--mean, --scale)"
        )
        model.notes.append(Note("assumed", text))
    recipe = model.preprocessing[port.name]
    if isinstance(channels, int) and channels != COLORS[recipe.color]:
        raise UsageError(f"the network takes {channels} channels, its preprocessing makes {recipe.color}")


def options_of(options: TrainOptions | None, more: Mapping[str, Any]) -> tuple[TrainOptions, dict[str, Any]]:
    from dataclasses import fields

    from netferry.runtime.training.options import TrainOptions

    known = {f.name for f in fields(TrainOptions)}
    given = {k: v for k, v in more.items() if k in known}
    reading = {k: v for k, v in more.items() if k not in known}
    return (options or TrainOptions()).with_(**given), reading
