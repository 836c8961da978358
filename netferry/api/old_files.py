"""ONNX files of before opset 7, as something that runs them."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from netferry.errors import CheckFailed, MissingExtra
from netferry.runtime.sides import OnnxSide
from netferry.schemas.publish import temporary_folder

if TYPE_CHECKING:
    from netferry.schemas.model import Model

OLD = 7
"""the first opset whose operators today's engines know: before it, arithmetic broadcasts by attributes"""


class RunnableOnnx:
    """An ONNX file, or one of before opset 7 raised by netferry's rules where onnxruntime does not run it itself.

    onnx.reference is not asked for such: it knows the operators by their later rules.

    Args:
        file: the file.
        model: the file as netferry reads it; a copy of it is raised.

    Raises:
        CheckFailed, InputError, MalformedFile: nothing runs it.
        UnsupportedError: its operators cannot be raised.

    Attributes:
        side: what runs it.
        file: what it runs: the file, or the raised one.
    """

    def __init__(self, file: Path, model: Model) -> None:
        self.file = file
        if model.opset >= OLD or model.opset == 0:
            self.side = OnnxSide(file)
            return
        try:
            self.side = OnnxSide(file, reference=False)
        except (CheckFailed, MissingExtra):
            from netferry.api.opsets import at_opset
            from netferry.api.saving import save

            raised = model.copy()
            at_opset(raised, None)
            kept = ExitStack()
            weakref.finalize(self, kept.close)
            self.file = kept.enter_context(temporary_folder()) / "raised.onnx"
            save(raised, self.file, check="structure")
            self.side = OnnxSide(self.file)
            self.side.name += f", raised from opset {model.opset} to {raised.opset} by netferry"
