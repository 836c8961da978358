"""``package``: a network of any format laid out as a serving stack wants it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath, load
from netferry.api.remote import Transfers
from netferry.api.saving import save
from netferry.errors import OutputError, UnsupportedOption, UsageError, quoted
from netferry.schemas.publish import announce
from netferry.schemas.remote import is_url, local_path, plain_name, shown

if TYPE_CHECKING:
    from netferry.converters.serving.contents import Picture
    from netferry.schemas.model import Model

PREPROCESSING = ("auto", "none", "ensemble", "embed")


def package(
    source: StrPath | Model,
    out: StrPath,
    weights: StrPath | None = None,
    *,
    to: str = "dir",
    name: str | None = None,
    preprocessing: str = "auto",
    max_batch: int | None = None,
    storage_uri: str | None = None,
    overwrite: bool = False,
    check: str = "auto",
    **reading: Any,
) -> dict[str, Any]:
    """Lay a network out for a serving stack: complete and valid, whole or not at all.

    Packaging the same network again changes nothing; another one under the same name counts the version up.

    Args:
        source: a file (see :func:`netferry.load` for ``weights`` and the further options) or a model.
        out: the folder: Triton's repository, KServe's storage folder, MLflow's model folder …; or a URL (s3, gs).
        to: triton, kserve, mlflow, huggingface or dir.
        name: what the model is called in the stack; the file's name by default.
        preprocessing: ``embed`` bakes it into the network, which then takes uint8 pictures (N x H x W x C, RGB or grey)
            or, where it hears, a waveform, in any stack; ``ensemble``, for Triton and pictures, puts it in front as a
            model of its own. Both are an error where the model carries no recipe. ``none`` leaves it to the caller;
            ``auto`` is an ensemble for Triton where that goes, else none.
        max_batch: for Triton: the largest batch that it forms, 32 by default.
        storage_uri: for KServe: where the cluster finds the folder; ``out`` where that is a URL.
        overwrite: replace files that were edited, and use a folder that holds other files.
        check: as for :func:`netferry.save`.

    Returns:
        ``target``, ``name``, ``out``, ``units`` (folder, version, unchanged, files), ``inputs``, ``outputs``,
        ``notes``.

    Raises:
        UsageError: no such stack, a name it does not take. UnsupportedError: an element type it does not have.
        OutputError: the folder is another's, or its files were edited.
    """
    from netferry.api.remote_folder import RemoteFolder
    from netferry.converters.serving import TARGETS
    from netferry.converters.serving.contents import model_name

    if to not in TARGETS:
        raise UsageError(f"a package is for {', '.join(TARGETS)}, not {to!r}")
    if preprocessing not in PREPROCESSING:
        raise UsageError(f"preprocessing is {', '.join(PREPROCESSING)}, not {preprocessing!r}")
    if preprocessing == "ensemble" and to != "triton":
        raise UsageError(f"an ensemble is for triton; {to} has no such thing")
    if max_batch is not None and max_batch < 1:
        raise UsageError(f"max_batch is at least 1, not {max_batch}")
    with Transfers() as files:
        reading = files.options(reading)
        if isinstance(source, (str, Path)):
            stem = plain_name(source).stem
            model = load(files.input(source), files.input(weights), **reading)
        else:
            model, stem = source, source.graph.name or ""
        if preprocessing == "embed":
            from netferry.converters.passes.embed import embed_preprocessing

            model = model.copy() if model is source else model
            model.notes.append(embed_preprocessing(model))
        called = model_name(name, stem)
        options = {"max_batch": max_batch, "storage_uri": storage_uri}
        place = local_path(str(out)) if is_url(out) else Path(out)
        if place is not None:
            return _laid_out(model, called, place, to, preprocessing, options, overwrite, check)
        url = str(out)
        if to == "kserve" and storage_uri is None:
            options["storage_uri"] = shown(url)
        units = (called, f"{called}_preprocess", f"{called}_ensemble") if to == "triton" else None
        with RemoteFolder(url, units) as folder:
            result = _laid_out(
                model, called, folder.local, to, preprocessing, options, overwrite, check, folder.elsewhere
            )  # fmt: skip
            folder.send()
            result["out"] = shown(url)
            for unit in result["units"]:
                inside = Path(unit["folder"]).relative_to(folder.local).as_posix()
                unit["folder"] = shown(url) if inside == "." else f"{shown(url).rstrip('/')}/{inside}"
        return result


def _laid_out(
    model: Model,
    called: str,
    target: Path,
    to: str,
    preprocessing: str,
    options: Mapping[str, Any],
    overwrite: bool,
    check: str,
    elsewhere: frozenset[Path] = frozenset(),
) -> dict[str, Any]:
    """The work of :func:`package` in a local folder."""
    from netferry import __version__
    from netferry.converters.serving import layout, publish
    from netferry.converters.serving.contents import contents_of

    notes: list[str] = []
    with _Folder(target) as folder:
        written = save(model, folder / "net" / "model.onnx", check=check)
        files = tuple(Path(o["file"]) for o in written["outputs"])
        files = tuple(sorted(files, key=lambda f: f.name != "model.onnx"))
        picture = None
        if to == "triton" and preprocessing in ("auto", "ensemble"):
            picture = _picture(model, folder, preprocessing, notes)
        contents = contents_of(model, called, files, __version__, picture=picture, options=options)
        if to == "kserve" and options["storage_uri"] is None:
            from netferry.converters.serving.kserve import storage_uri as assumed

            notes.append(f"the storage URI {assumed(contents)} is assumed; --storage-uri names the right one")
        facts = {
            "netferry": __version__,
            "target": to,
            "name": called,
            "source": contents.source,
            "inputs": [i.as_dict() for i in contents.inputs],
            "outputs": [o.as_dict() for o in contents.outputs],
        }
        placed = publish(
            layout(to, contents), target, staging=folder, facts=facts, overwrite=overwrite, elsewhere=elsewhere
        )
    return {
        "target": to,
        "name": called,
        "out": str(target),
        "units": placed,
        "inputs": facts["inputs"],
        "outputs": facts["outputs"],
        "checks": written["checks"],
        "notes": [*notes, *(note.message for note in model.notes if note.kind == "warning")],
    }


class _Folder:
    """A hidden folder on the disk of ``target``, beside it; gone in the end, as are parents made for it in vain."""

    def __init__(self, target: Path) -> None:
        self.target = target.absolute()
        self._made: list[Path] = []

    def __enter__(self) -> Path:
        parent = self.target.parent
        try:
            for folder in reversed([parent, *parent.parents]):
                if not folder.exists():
                    folder.mkdir()
                    self._made.append(folder)
            if self.target.is_dir() and self.target.stat().st_dev != parent.stat().st_dev:
                parent = self.target  # a volume of its own
            self._folder = tempfile.TemporaryDirectory(dir=parent, prefix=".netferry-")
            announce(self._folder.name)
        except OSError as error:
            raise OutputError(error.strerror or str(error), file=self.target) from None
        return Path(self._folder.name)

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()
        for folder in reversed(self._made):
            try:
                folder.rmdir()  # empty only where nothing came of it
            except OSError:
                break


def _picture(model: Model, folder: Path, wanted: str, notes: list[str]) -> Picture | None:
    """The preprocessing as a model of its own; None where ``auto`` finds none, or none that ONNX can say."""
    from netferry.converters.preprocessing import preprocessing_model
    from netferry.converters.serving.contents import Picture
    from netferry.converters.waveform import sound_input
    from netferry.schemas.ir import ir

    carried = [i for i in model.inputs if i.name in model.preprocessing and i.shape is not None and len(i.shape) == 4]
    heard = sound_input(model)
    if heard is not None:
        if wanted == "ensemble":
            raise UsageError("an ensemble prepares pictures, not sounds", hint="--preprocessing embed takes a waveform")
        if not heard.inside:
            notes.append("callers send log-mel patches; --preprocessing embed takes a waveform")
        return None
    if not carried:
        if wanted == "ensemble":
            raise UsageError(
                "the model carries no preprocessing to put in front of it",
                hint="give it with --mean, --scale, --channel-order, --resize, --size, --crop",
            )
        notes.append("the model carries no preprocessing: callers send the network's own input")
        return None
    info = carried[0]
    if info.dtype == "uint8":  # the preprocessing is inside already
        if wanted == "ensemble":
            raise UsageError(f"input {quoted(info.name)} takes uint8 pictures already")
        return None
    recipe = model.preprocessing[info.name]
    assert info.shape is not None
    height, width = info.shape[1:3] if recipe.layout == "NHWC" else info.shape[2:4]
    size = (height if isinstance(height, int) else None, width if isinstance(width, int) else None)
    taken = {i.name for i in model.inputs} | {o.name for o in model.outputs}
    name = next(n for n in ("picture", "netferry_picture", "netferry_picture_") if n not in taken)
    try:
        made = preprocessing_model(recipe, info.name, size, dtype=ir.DataType[info.dtype.upper()], picture=name)
        written = save(made, folder / "pictures" / "model.onnx")
    except UnsupportedOption as error:
        if wanted == "ensemble":
            raise
        notes.append(f"no ensemble: {error}")
        return None
    # rank and fixed sides as the network declares them: what the two say of the tensor between them must be equal
    return Picture(tuple(Path(o["file"]) for o in written["outputs"]), made.inputs[0], info)
