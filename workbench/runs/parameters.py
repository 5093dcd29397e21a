"""What each notebook can be asked: its parameters, their types, ranges and defaults.

A notebook's ``parameters`` cell holds the same names, annotations and defaults (a test compares them), so a
wrong name or value is refused here, before a kernel starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench.errors import InvalidInputError, UnknownNameError


class NotebookParameters(BaseModel):
    """Base of the parameter models: unknown names, NaN and infinities are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class TourParameters(NotebookParameters):
    """``00_tour``: one failing image from the mask to the edit.

    Example:
        >>> TourParameters(style="twemoji").sparsity
        0.9
    """

    model: str = Field("emoji_vit_s14", min_length=1, description="model to look into")
    hypernetwork: str = Field("emoji_vit_s14", min_length=1, description="mask hypernetwork, by name or file")
    style: str = Field("openmoji", min_length=1, description="drawing style the failure comes from")
    index: int = Field(0, ge=0, description="which failure of that style")
    sparsity: float = Field(0.9, ge=0, lt=1, description="fraction of hidden units that stay frozen")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of everything drawn at random")


class WhereToEditParameters(TourParameters):
    """``01_where_to_edit``: the masks of one failure, and of a second one beside it."""

    other_index: int = Field(1, ge=0, description="the failure to compare with")


class EditStepperParameters(TourParameters):
    """``02_edit_stepper``: one edit, step by step."""

    learning_rate: float = Field(2e-5, gt=0, description="step size of the edit")
    max_steps: int = Field(100, ge=1, description="steps after which an edit gives up")
    locality_images: int = Field(100, ge=1, description="images on which locality is measured")


class SpineParameters(NotebookParameters):
    """``05_spine_landmarks``: the landmarks of one radiograph, stage by stage, and the angles they imply."""

    cascade: str = Field("phantom", min_length=1, description="trained cascade, by name or file")
    source: str = Field("phantom", pattern="^(phantom|hard|ct)$", description="what is looked at first")
    index: int = Field(7, ge=0, description="which radiograph of that source")
    image: str = Field("", description="path of a radiograph of your own; none if empty")
    variant: str = Field("official", pattern="^(official|yi)$", description="rules for the official angles")
    mode: int = Field(3, ge=0, description="mode of the shape model that is shown")
    films: int = Field(12, ge=2, description="how many phantoms are predicted for the overview")


class EditYourModelParameters(NotebookParameters):
    """``07_edit_your_model``: one wrong image of a user's own, with a model of their own.

    Without an image the notebook writes a few drawings and takes those.
    """

    model: str = Field("emoji_vit_s14", min_length=1, description="model to edit, by name or file of weights")
    architecture: str = Field(
        "", description="timm's name of a file's architecture, where it does not say it"
    )
    image: str = Field("", description="path of the image that the model gets wrong")
    target: str = Field("", description="its right class, by name or index")
    neighbours: str = Field("", description="folder of other images of that class")
    protect: str = Field("", description="folder of images whose predictions should stay")
    editor: str = Field("", description="name of an editor; the one that suits the model if empty")
    hypernetwork: str = Field("", description="mask hypernetwork, by name or file; the model's own if empty")
    sparsity: float = Field(0.9, ge=0, lt=1, description="fraction of hidden units that masks keep frozen")
    out: str = Field("", description="folder for the files written; a temporary one if empty")


PARAMETERS: dict[str, type[NotebookParameters]] = {
    "00_tour": TourParameters,
    "01_where_to_edit": WhereToEditParameters,
    "02_edit_stepper": EditStepperParameters,
    "05_spine_landmarks": SpineParameters,
    "07_edit_your_model": EditYourModelParameters,
}


def parameters_of(notebook: str) -> type[NotebookParameters]:
    """The parameter model of a notebook.

    Raises:
        UnknownNameError: no notebook has this name; the message gives the nearest.
    """
    if notebook not in PARAMETERS:
        raise UnknownNameError("notebook", notebook, PARAMETERS)
    return PARAMETERS[notebook]


def check_parameters(notebook: str, values: Mapping[str, Any]) -> NotebookParameters:
    """The notebook's parameters with `values` in place of its defaults.

    Args:
        notebook: a key of `PARAMETERS`, such as ``"00_tour"``.
        values: Python values by parameter name; strings are read as the parameter's type.

    Raises:
        UnknownNameError: a name that the notebook does not have.
        InvalidInputError: a value of the wrong type or outside its range.

    Example:
        >>> check_parameters("00_tour", {"sparsity": 0.95}).model_dump()["sparsity"]
        0.95
    """
    expected = parameters_of(notebook)
    for name in values:
        if name not in expected.model_fields:
            raise UnknownNameError(f"parameter of notebook {notebook}", name, expected.model_fields)
    try:
        return expected.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidInputError(_explain(notebook, error)) from None


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """``["sparsity=0.95", "seed=1"]`` as a dictionary of strings, which are never evaluated.

    Raises:
        InvalidInputError: no ``=``, no name before it, or a name given twice.
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        name = name.strip()
        if not separator or not name:
            raise InvalidInputError(f"cannot read -p {assignment!r}: expected key=value, as in sparsity=0.95")
        if name in values:
            raise InvalidInputError(f"parameter {name!r} is given twice: {values[name]!r} and {value!r}")
        values[name] = value
    return values


def describe_range(field: str, model: type[NotebookParameters]) -> str:
    """What a parameter accepts, in words: ``"a number, 0 <= sparsity < 1"``."""
    schema = model.model_json_schema()["properties"][field]
    kind = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}.get(schema["type"])
    if "pattern" in schema:
        return "one of " + ", ".join(schema["pattern"].strip("^$()").split("|"))
    if kind is None:
        return "a non-empty text" if schema.get("minLength") else "a text"
    low, high = _lower_bound(schema), _upper_bound(schema)
    return f"{kind}, {low}{field}{high}" if low or high else kind


def _lower_bound(schema: Mapping[str, Any]) -> str:
    if "minimum" in schema:
        return f"{schema['minimum']} <= "
    return f"{schema['exclusiveMinimum']} < " if "exclusiveMinimum" in schema else ""


def _upper_bound(schema: Mapping[str, Any]) -> str:
    if "maximum" in schema:
        return f" <= {schema['maximum']}"
    return f" < {schema['exclusiveMaximum']}" if "exclusiveMaximum" in schema else ""


def _explain(notebook: str, error: ValidationError) -> str:
    model = parameters_of(notebook)
    first = error.errors()[0]
    field = str(first["loc"][0])
    default = model.model_fields[field].default
    return (
        f"parameter {field}={first['input']!r} of notebook {notebook} cannot be used: "
        f"expected {describe_range(field, model)} (default {default!r})"
    )
