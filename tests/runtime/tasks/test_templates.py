"""Templates, by which labels alone become prompts: the published sets, one's own, and open_clip's classifier."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip import build_zero_shot_classifier, zero_shot_metadata

import runtime
from export.samples import chest_phantom
from runtime.__main__ import main
from runtime.bundle.parts import SENTENCES
from runtime.errors import InputError
from runtime.tasks.given_prompts import given_templates, resolve
from runtime.tasks.prompts import LabelPrompts
from runtime.tasks.templates import TEMPLATE_SETS, Templates, check_templates, read_templates
from tests.conftest import edit_json
from tests.runtime.handmade import fp32, write_bundle, write_clip

LABELS = ["edema", "opacity", "left effusion", "clear lungs"]
OWN = ["small {}", "{} left", "clear lungs but no {}"]
SCALE = 100.0


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A CLIP-like bundle without templates of its own, and one like BioViL."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("clip", "biovil")}
    return {"clip": write_clip(folders["clip"]), "biovil": write_bundle(folders["biovil"], [fp32()], [fp32()])}


@pytest.fixture(scope="module")
def clip(bundles: dict[str, Path]) -> runtime.Engine:
    return runtime.load(bundles["clip"], provider="cpu")


@pytest.fixture(scope="module")
def biovil(bundles: dict[str, Path]) -> runtime.Engine:
    return runtime.load(bundles["biovil"], provider="cpu")


@pytest.fixture(scope="module")
def films() -> list[np.ndarray]:
    return [chest_phantom(150, 180, seed) for seed in range(4)]


def open_clips(engine: runtime.Engine, labels: list[str], templates: object) -> torch.Tensor:
    """open_clip's own classifier around this engine's texts: float32 (D, labels)."""

    class Model:
        """What open_clip asks of a model."""

        def encode_text(self, text: torch.Tensor, normalize: bool) -> torch.Tensor:
            return torch.tensor(engine.text.encode([texts[int(number)] for number in text], normalize=normalize))

    texts: list[str] = []

    def tokenize(given: list[str]) -> torch.Tensor:
        texts.extend(given)
        return torch.arange(len(texts) - len(given), len(texts))

    return build_zero_shot_classifier(Model(), tokenize, labels, templates, num_classes_per_batch=3)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("imagenet", zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES),
        ("imagenet-simple", zero_shot_metadata.SIMPLE_IMAGENET_TEMPLATES),
        (OWN, OWN),
    ],
    ids=["imagenet", "simple", "own"],
)
def test_labels_alone_are_classified_as_by_open_clip(
    clip: runtime.Engine, films: list[np.ndarray], name: object, theirs: object
) -> None:
    found = clip.classify(films, LABELS, templates=name)  # type: ignore[arg-type]
    logits = SCALE * torch.tensor(clip.image.encode(films)) @ open_clips(clip, LABELS, theirs)
    assert np.array([list(each.values()) for each in found]) == pytest.approx(logits.softmax(-1).numpy(), abs=1e-5)
    assert found != clip.classify(films, LABELS), "else the templates would do nothing"


def test_the_imagenet_sets_are_open_clips() -> None:
    for name, theirs in (
        ("imagenet", zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES),
        ("imagenet-simple", zero_shot_metadata.SIMPLE_IMAGENET_TEMPLATES),
    ):
        templates = TEMPLATE_SETS[name].templates
        assert templates.filled("sea {lion}") == ([fill("sea {lion}") for fill in theirs], [])
    assert len(TEMPLATE_SETS["imagenet"].templates.positive) == 80


def test_published_sets_pass_their_own_check_and_say_where_they_come_from() -> None:
    for name, found in TEMPLATE_SETS.items():
        sides = {"positive": list(found.templates.positive), "negative": list(found.templates.negative)}
        assert check_templates(sides) == check_templates(name) == given_templates(name) == found.templates
        assert found.source


def test_templates_that_affirm_and_deny_make_pairs_of_labels_alone(
    biovil: runtime.Engine, films: list[np.ndarray]
) -> None:
    whole = {label: ([label], [f"no {label}"]) for label in LABELS}
    assert biovil.classify(films, LABELS, templates="chexzero") == biovil.classify(films, whole)
    own = {"positive": ["small {}", "{}"], "negative": ["no {}"]}
    whole = {label: ([f"small {label}", label], [f"no {label}"]) for label in LABELS}
    assert biovil.classify(films, LABELS, templates=own) == biovil.classify(films, whole)


def test_labels_alone_keep_their_meaning_without_templates(biovil: runtime.Engine, films: list[np.ndarray]) -> None:
    assert biovil.classify(films, LABELS, score="softmax") == biovil.classify(
        films, {label: [label] for label in LABELS}, score="softmax"
    )
    with pytest.raises(InputError) as raised:
        biovil.classify(films, LABELS)
    for part in ("A list came where prompts are expected", "(chexzero, hi-ml)", "score 'softmax'"):
        assert part in str(raised.value)
    with pytest.raises(InputError, match=r"For labels alone choose templates that do both"):
        biovil.classify(films, LABELS, templates="imagenet")


def test_the_bundles_templates_are_taken_where_none_are_chosen() -> None:
    assert resolve(["a", "b"], "clip", "softmax", ["an {}"])[0] == (
        LabelPrompts("a", ("an a",), ()),
        LabelPrompts("b", ("an b",), ()),
    )
    assert resolve(["a", "b"], "clip", "softmax", ["an {}"], "chexzero")[0][0].positive == ("a",)


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ("radiographs", "There are no templates 'radiographs'; there are: imagenet, imagenet-simple, photo"),
        (["a film"], r"positive template 1 is 'a film'; a phrase with \{\} where the label belongs"),
        (["{}", 3], "positive template 2 is 3"),
        ({"positive": "{}"}, "The positive templates are '{}'; a list is expected"),
        ({"positive": ["{}"], "negativ": ["no {}"]}, "The templates have 'negativ'"),
        ({"negative": ["no {}"]}, "There are no positive templates"),
        ([], "There are no positive templates"),
        (3, "The positive templates are 3"),
    ],
)
def test_templates_that_are_refused(templates: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(["a", "b"], "clip", "softmax", (), templates)  # type: ignore[arg-type]


def test_templates_are_for_labels_alone(clip: runtime.Engine) -> None:
    for prompts in ({"a": ["x"], "b": ["y"]}, "biomedclip-rsna"):
        with pytest.raises(InputError, match="Templates make prompts of labels alone; these have prompts"):
            clip.zero_shot_classifier(prompts, templates="photo")


def test_published_classes_are_compared_with_each_other(clip: runtime.Engine, biovil: runtime.Engine) -> None:
    found = clip.zero_shot_classifier("biomedclip-rsna")
    assert found.labels == ("normal lung", "pneumonia")
    written = clip.zero_shot_classifier(["normal lung", "pneumonia"], templates="biomedclip-photo")
    assert np.array_equal(found.prompt_embeds, written.prompt_embeds)
    with pytest.raises(InputError, match="only affirm their labels; the score 'pairs' compares them"):
        biovil.zero_shot_classifier("biomedclip-rsna")


def test_a_file_of_templates(tmp_path: Path) -> None:
    file = tmp_path / "templates.json"
    file.write_text(json.dumps(OWN))
    assert read_templates(file) == given_templates(str(file)) == Templates(tuple(OWN))
    file.write_text(json.dumps({"positive": ["{}"], "negative": ["no {}"]}))
    assert read_templates(file) == Templates(("{}",), ("no {}",))
    for content, message in (
        ('"photo"', "hold no list"),
        ("[", "cannot be used: Expecting value"),
        ('["x"]', r"templates.json cannot be used. The positive template 1 is 'x'"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=message):
            read_templates(file)
    with pytest.raises(InputError, match=r"gone\.json cannot be read: No such file"):
        given_templates(str(tmp_path / "gone.json"))
    with pytest.raises(InputError, match=r"no templates 'photos'; .* Or give a .json file of them"):
        given_templates("photos")


def test_the_command_takes_labels_alone(
    bundles: dict[str, Path],
    clip: runtime.Engine,
    biovil: runtime.Engine,
    films: list[np.ndarray],
    tmp_path: Path,
    capsys,
) -> None:
    from PIL import Image

    Image.fromarray(films[0]).save(tmp_path / "film.png")
    (tmp_path / "own.json").write_text(json.dumps(OWN))
    (tmp_path / "labels.json").write_text(json.dumps(LABELS[:2]))

    def classified(bundle: str, *options: str) -> tuple[dict[str, object], list[float]]:
        out = tmp_path / "found.csv"
        command = [str(bundles[bundle]), str(tmp_path / "film.png"), "--out", str(out), "--force", "--json"]
        assert main(["classify", *command, "--provider", "cpu", *options]) == 0
        values = [float(value) for value in out.read_text().splitlines()[1].split(",")[1:]]
        return json.loads(capsys.readouterr().out), values

    two = ["--class", "edema", "--class", "left effusion"]
    report, found = classified("clip", *two, "--templates", "imagenet-simple")
    assert (report["rule"], report["score"], report["templates"]) == ("clip", "softmax", "imagenet-simple")
    expected = clip.classify(tmp_path / "film.png", ["edema", "left effusion"], templates="imagenet-simple")
    assert found == pytest.approx(list(expected.values()), abs=1e-6)
    _, found = classified("clip", *two, "--templates", str(tmp_path / "own.json"))
    expected = clip.classify(tmp_path / "film.png", ["edema", "left effusion"], templates=OWN)
    assert found == pytest.approx(list(expected.values()), abs=1e-6)
    report, found = classified("biovil", "--prompts", str(tmp_path / "labels.json"), "--templates", "chexzero")
    assert (report["rule"], report["score"]) == ("biovil", "pairs")
    expected = biovil.classify(tmp_path / "film.png", LABELS[:2], templates="chexzero")
    assert found == pytest.approx(list(expected.values()), abs=1e-6)


def test_mistakes_of_the_command(bundles: dict[str, Path], tmp_path: Path, capsys) -> None:
    command = ["classify", str(bundles["biovil"]), "film.png", "--out", str(tmp_path / "found.csv")]
    for options, message in (
        (["--class", "edema"], "For labels alone choose templates that do both"),
        (["--class", "edema", "--templates", "photos"], "There are no templates 'photos'"),
        (["--prompts", "chexpert", "--templates", "photo"], "Templates make prompts of labels alone"),
    ):
        assert main([*command, *options]) == 1
        assert message in capsys.readouterr().err
    for options, message in (
        (["--class", "edema", "--prompts", "chexpert"], "not allowed with argument --class"),
        ([], "one of the arguments --prompts --class is required"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*command, *options])
        assert message in capsys.readouterr().err
    command[1] = str(tmp_path / "nothing")
    assert main([*command, "--class", "edema"]) == 1
    assert "nothing" in capsys.readouterr().err


def test_prompts_of_which_nothing_is_read_are_refused(tmp_path: Path, films: list[np.ndarray]) -> None:
    """GLoRIA drops sentences of one word, so that all labels of one word would be embedded alike."""
    bundle = write_clip(tmp_path / "bundle")
    edit_json(bundle / "manifest.json", lambda data: data["text"]["tokenization"].update(cleaning=SENTENCES))
    engine = runtime.load(bundle, provider="cpu")
    with pytest.raises(InputError, match=r"2 of 3 prompts cannot be used") as raised:
        engine.classify(films, ["Edema", "left effusion", "Opacity."])
    assert [fault.index for fault in raised.value.faults] == [0, 2]
    assert "label 'Edema', positive prompt 1 ('Edema'): nothing of it is read: this system drops" in str(raised.value)
    found = engine.classify(films, ["Edema", "Opacity"], templates="hi-ml")
    assert found == engine.classify(
        films,
        {
            label: [each.format(label) for each in TEMPLATE_SETS["hi-ml"].templates.positive]
            for label in ("Edema", "Opacity")
        },
    )
