"""ServingCheck blesses what serves and says in words why the rest does not."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.dsl.compiler.compiler import Compiler
from tfx.orchestration.pipeline import Pipeline
from tfx.types import artifact_utils
from tfx.types.channel_utils import as_channel
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model

from components import serving_check
from components.serving import serving_checks, serving_probe
from components.serving.model_client import RemoteModel
from components.serving_check import ServingCheck
from core import checksums
from core.artifacts.serving_check import SERVING_CHECK, Check, ServingReport
from core.errors import MachineError
from core.image_limits import ImageLimits
from core.settings.converter import from_json, to_json
from core.settings.serving import ServerLimits, ServingSettings
from tests.conftest import ROOT
from tests.model_factory import Fault, example, image_bytes, save_model, write_examples

IMAGES = [image_bytes(color, seed=color) for color in range(3)]
SETTINGS = ServingSettings()


def probe(
    model_dir: Path, journal: Path, images: Sequence[bytes] = IMAGES, settings: ServingSettings = SETTINGS
) -> dict[str, tuple[bool, str]]:
    """Runs the checks in this process: check -> (passed, detail)."""
    with journal.open("w") as file:
        serving_probe.probe(str(model_dir), images, serving_probe.Journal(file), settings)
    return found(journal)


def found(journal: Path) -> dict[str, tuple[bool, str]]:
    """What the checks in a journal found."""
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    return {r["check"]["name"]: (r["check"]["passed"], r["check"]["detail"]) for r in records if "check" in r}


def failures(checks: dict[str, tuple[bool, str]]) -> dict[str, str]:
    return {name: detail for name, (passed, detail) in checks.items() if not passed}


@pytest.fixture
def artifacts(tmp_path: Path) -> dict:
    model, examples, blessing = Model(), Examples(), InfraBlessing()
    model.uri, examples.uri, blessing.uri = (str(tmp_path / name) for name in ("model", "examples", "blessing"))
    (tmp_path / "model").mkdir()
    examples.split_names = artifact_utils.encode_split_names(["train", "test"])
    write_examples(tmp_path / "examples", "test", [example(image, "red") for image in IMAGES])
    return {"model": model, "examples": examples, "blessing": blessing}


def reporting(*records: dict) -> list[str]:
    """A command that reports these records and that it has finished."""
    lines = "".join(json.dumps(record) + "\n" for record in (*records, {"finished": True}))
    return [sys.executable, "-c", f"import sys; open(sys.argv[3], 'w').write({lines!r})"]


def run(artifacts: dict, settings: ServingSettings = SETTINGS) -> ServingReport:
    ServingCheck.test_call(**artifacts, settings=to_json(settings))
    return SERVING_CHECK.read(artifacts["blessing"].uri)


@pytest.mark.slow
def test_a_good_model_is_blessed_and_measured(artifacts: dict) -> None:
    save_model(Path(artifacts["model"].uri) / "Format-Serving")

    report = run(artifacts, ServingSettings(max_latency_ms=60_000.0))

    assert report.reason is None, report
    assert artifacts["blessing"].get_int_custom_property("blessed") == 1
    assert (Path(artifacts["blessing"].uri) / "INFRA_BLESSED").exists()
    assert {c.name for c in report.checks} >= {
        "load",
        "empty batch",
        "bad images in serving_images",
        "requests at the same time",
        "too large a request",
        "max_latency_ms",
    }
    assert all(c.passed for c in report.checks)
    assert 0 < report.latency_ms.median <= report.latency_ms.p95 <= report.latency_ms.p99
    assert report.latency_ms.requests >= 10
    assert 0 < report.load_seconds < report.process_seconds
    assert report.peak_rss_mb > 100


@pytest.mark.slow
def test_a_model_with_broken_numbers_is_not_blessed_and_says_why(artifacts: dict) -> None:
    save_model(Path(artifacts["model"].uri) / "Format-Serving", certainty=float("inf"))

    report = run(artifacts)

    assert artifacts["blessing"].get_int_custom_property("blessed") == 0
    assert artifacts["blessing"].get_string_custom_property("reason") == report.reason
    assert report.reason == "files are sound: the variable weights is not finite"
    assert (Path(artifacts["blessing"].uri) / "INFRA_NOT_BLESSED").exists()


@pytest.mark.slow
def test_a_model_whose_files_have_changed_is_not_judged(artifacts: dict) -> None:
    model = save_model(Path(artifacts["model"].uri) / "Format-Serving")
    _truncate(model / "variables/variables.data-00000-of-00001")

    with pytest.raises(MachineError, match=r"changed since it was exported: .* the next run judges it"):
        run(artifacts)
    assert not Path(artifacts["blessing"].uri).exists()


def check(command: Sequence[str], settings: ServingSettings = SETTINGS) -> ServingReport:
    return serving_check.check("model", "examples", settings, command)


def test_a_process_that_does_not_finish_is_no_verdict_on_the_model() -> None:
    hang = (
        "import sys, time; open(sys.argv[3], 'w').write('{\"started\": \"empty batch\"}\\n');"
        "print('waiting', flush=True); time.sleep(600)"
    )

    with pytest.raises(MachineError, match=r"did not finish in 2 s during the check 'empty batch', .* judges it"):
        check([sys.executable, "-c", hang], ServingSettings(timeout_seconds=2))


def test_a_crash_is_a_reason_and_keeps_what_was_found_before(tmp_path: Path) -> None:
    crash = (
        "import os, sys; print('about to die', flush=True); f = open(sys.argv[3], 'w');"
        'f.write(\'{"started": "load"}\\n{"check": {"name": "load", "passed": true, "detail": "", "seconds": 2}}\\n\');'
        'f.write(\'{"measured": {"load_seconds": 2.5}}\\n{"started": "empty batch"}\\n{"check": {"name": "empty ba\');'
        "f.flush(); os.abort()"
    )

    report = check([sys.executable, "-c", crash])

    assert not report.blessed
    assert report.reason == "process: the serving process was ended by SIGABRT during the check 'empty batch'"
    assert report.checks[0] == Check("load", True, "", 2)
    assert report.load_seconds == 2.5
    assert "about to die" in report.output


STARTED = "import os, sys; f = open(sys.argv[3], 'w'); print('{\"started\": \"load\"}', file=f, flush=True); "


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "os.kill(os.getpid(), 9)",
            "was killed during the check 'load'; most likely, memory ran out: give the machine",
        ),
        ("os.kill(os.getpid(), 15)", "was ended by SIGTERM during the check 'load'; the model was not judged"),
        ("print('terminate called: std::bad_alloc', flush=True); os.abort()", "SIGABRT .*: memory ran out; the model"),
        ("raise ImportError('no numpy')", "ended with exit code 1 .*: ImportError: no numpy; the model was not judged"),
        ("raise OSError(28, os.strerror(28), '/tmp/x')", "no space is left on the disk; the model was not judged"),
        ("os._exit(0)", "ended with exit code 0 during the check 'load'; the model was not judged"),
        ('print(\'{"not_judged": "no room"}\', file=f, flush=True)', "^no room; the model was not judged"),
    ],
)
def test_what_the_machine_does_to_the_process_is_no_verdict_on_the_model(program: str, said: str) -> None:
    with pytest.raises(MachineError, match=said):
        check([sys.executable, "-c", STARTED + program])


def test_the_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    started = tmp_path / "started"
    probe = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = (
        "import sys; from components import serving_check; from core.settings.serving import ServingSettings; "
        f"serving_check.check('m', 'e', ServingSettings(), [sys.executable, '-c', {probe!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT) as process:
        while not started.exists() or not started.read_text():
            time.sleep(0.01)
        process.kill()
    limit = time.monotonic() + 10
    while Path(f"/proc/{started.read_text()}").exists():
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("limits", "failing"),
    [
        (ServingSettings(max_median_latency_ms=5, max_latency_ms=10, max_load_seconds=2, max_memory_mb=900), None),
        (ServingSettings(max_latency_ms=9.9), "max_latency_ms: 10 ms one image, 99th percentile; 9.9 ms allowed"),
        (ServingSettings(max_median_latency_ms=4), "max_median_latency_ms: 5 ms one image, median; 4 ms allowed"),
        (ServingSettings(max_load_seconds=1), "max_load_seconds: 2 s to load; 1 s allowed"),
        (ServingSettings(max_memory_mb=100), "max_memory_mb: 900 MB at most in memory; 100 MB allowed"),
    ],
)
def test_limits(limits: ServingSettings, failing: str | None) -> None:
    measured = {
        "measured": {
            "latency_ms": {"median": 5, "p95": 9, "p99": 10, "requests": 20},
            "load_seconds": 2,
            "peak_rss_mb": 900,
        }
    }

    assert check(reporting(measured), limits).reason == failing


def test_the_component_hands_its_settings_to_the_process(
    artifacts: dict, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    script = (
        f"import sys; open({str(given)!r}, 'w').write(' '.join(sys.argv[4:])); "
        "open(sys.argv[3], 'w').write('{\"finished\": true}\\n')"
    )
    monkeypatch.setattr(serving_check, "PROBE", (sys.executable, "-c", script))
    settings = ServingSettings(server=ServerLimits(max_message_mb=100, request_seconds=7.5))

    run(artifacts, settings)

    assert from_json(given.read_text(), ServingSettings) == settings


def test_a_limit_on_what_was_not_measured_fails() -> None:
    report = check(reporting(), ServingSettings(max_latency_ms=1000))

    assert report.reason == "max_latency_ms: not measured; 1000 ms allowed"


def test_every_promise_of_the_tiny_model_holds(tmp_path: Path) -> None:
    checks = probe(save_model(tmp_path / "model"), tmp_path / "journal")

    assert failures(checks) == {}
    assert len(checks) > 15


class Counting(RemoteModel):
    """Counts the images sent in requests that the server does not refuse before it runs the model."""

    sent: list[int]

    def request(self, signature: str, values: Sequence[bytes]) -> dict[str, np.ndarray]:
        response = super().request(signature, values)
        self.sent.append(len(values))
        return response

    def classify(self, signature: str, examples: Sequence[bytes]) -> list[dict[str, float]]:
        self.sent.append(len(examples))
        return super().classify(signature, examples)


@pytest.mark.parametrize(("limit", "requests"), [(None, 10), (60_000.0, 100)])
def test_no_image_is_sent_twice_to_learn_the_same(
    limit: float | None, requests: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """But for latency, which takes its 99th percentile from many where a setting limits it."""
    monkeypatch.setattr(Counting, "sent", [], raising=False)
    monkeypatch.setattr(serving_probe, "RemoteModel", Counting)
    monkeypatch.setattr(serving_probe, "_LATENCY_SECONDS", 0.0)

    checks = probe(save_model(tmp_path / "m"), tmp_path / "journal", settings=ServingSettings(max_latency_ms=limit))

    assert failures(checks) == {}
    (latency,) = (
        record["measured"]["latency_ms"]
        for record in map(json.loads, (tmp_path / "journal").read_text().splitlines())
        if "latency_ms" in record.get("measured", {})
    )
    assert latency["requests"] == requests
    # alone 3, in tf.Examples 2, Classify 2, at the same time 8, full batch 64, bad ones among good ones 9 twice, a
    # large one, one at the end
    assert sum(Counting.sent) - requests == 3 + 2 + 2 + 8 + 64 + 18 + 1 + 1


@pytest.mark.parametrize("max_batch", [1, 2, 4])
def test_bad_images_are_sent_as_many_together_as_a_request_may_have(max_batch: int, tmp_path: Path) -> None:
    settings = ServingSettings(server=ServerLimits(max_batch=max_batch))

    checks = probe(save_model(tmp_path / "model"), tmp_path / "journal", settings=settings)

    assert failures(checks) == {}
    assert checks["bad images in serving_images"][1].count("not an image, or none of") == 2


@pytest.mark.parametrize(("beside", "named"), [(7, "text: a good image"), (8, "the whole request was refused: ")])
def test_the_bad_image_is_named_that_spoils_the_others(beside: int, named: str) -> None:
    """One by one, where the request with all of them fails; where none fails alone, that request is the finding."""

    class Spoiled:
        def request(self, signature: str, values: Sequence[bytes]) -> dict[str, np.ndarray]:
            bad = np.array([value not in IMAGES for value in values])
            if beside == 8 and len(values) > 3:
                raise tf.errors.InternalError(None, None, "too many at once")
            errors = [b"bad" if is_bad else b"" for is_bad in bad]
            if beside == 7 and b"this is not an image\n" in values:
                errors = [b"bad"] * len(values)
            scores = np.where(bad[:, None], 0.0, [[0.5, 0.5]])
            return {"probabilities": scores, "label": np.where(bad, b"", b"a"), "error": np.array(errors, object)}

    checks = serving_checks.ServingChecks(Spoiled(), IMAGES, SETTINGS.server, ImageLimits())

    with pytest.raises(serving_checks.UnfitError, match=f"^{named}") as found:
        checks.reports_bad_images("serving_images")
    assert ";" not in str(found.value)


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """Images as large as a phone's: of about 2 MB each."""
    images = [image_bytes(number % 3, side=950, seed=number, format="PNG") for number in range(4)]
    assert all(2 * 2**20 < len(image) < 2.5 * 2**20 for image in images)
    return images


@pytest.mark.parametrize(
    ("limits", "full"),
    [
        (ServerLimits(), "images: 27, of the 64 MB and 1,000 megapixels that a request may have"),
        (
            ServerLimits(max_message_mb=5, concurrent=1, waiting=1),
            "images: 2, of the 5 MB and 1,000 megapixels that a request may have",
        ),
    ],
)
def test_images_of_which_few_fit_in_a_request_are_no_failure(
    limits: ServerLimits, full: str, photos: list[bytes], tmp_path: Path
) -> None:
    checks = probe(save_model(tmp_path / "model"), tmp_path / "journal", photos, ServingSettings(server=limits))

    assert failures(checks) == {}
    assert checks["full batch"][1].startswith(f"{full}; largest difference ")
    assert f"has {limits.max_batch + 1} images" in checks["too many images"][1]


def test_what_does_not_fit_beside_two_others_is_replaced_among_bad_images(photos: list[bytes]) -> None:
    limits = ServerLimits(max_message_mb=5)
    assert serving_checks.fit_three([photos[0], IMAGES[0]], limits) == [IMAGES[0]]
    (made,) = serving_checks.fit_three(photos, limits)
    assert len(made) < 1000


def test_the_bounds_of_the_server_reach_the_process(artifacts: dict, photos: list[bytes], tmp_path: Path) -> None:
    examples = write_examples(tmp_path / "large", "test", [example(image, "red") for image in (*photos, IMAGES[0])])
    journal, limits = tmp_path / "journal", ServerLimits(max_message_mb=1, max_batch=5)
    model = save_model(tmp_path / "m")

    serving_probe.main(str(model), str(examples), str(journal), to_json(ServingSettings(server=limits)))

    checks = found(journal)
    assert failures(checks) == {}
    assert checks["test images"][1] == "images: 1"  # the others are larger than a request may be
    assert checks["full batch"][1].startswith("images: 5; ")


def test_the_process_loads_neither_tfx_nor_beam_nor_their_libraries(tmp_path: Path) -> None:
    examples = write_examples(tmp_path, "test", [example(IMAGES[0], "red")])
    journal = tmp_path / "journal"
    script = (
        f"import sys; from components.serving import serving_probe; serving_probe.main({str(examples.parent / 'm')!r}, "
        f"{str(examples)!r}, {str(journal)!r}, '{{}}'); print(*{{name.split('.')[0] for name in sys.modules}})"
    )
    save_model(tmp_path / "m")

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)

    assert json.loads(journal.read_text().splitlines()[-1]) == {"finished": True}
    loaded = set(done.stdout.split())
    assert {"tensorflow", "numpy", "grpc", "tensorflow_serving", "components", "trainer"} <= loaded
    assert not loaded & {
        "tfx",
        "tfx_bsl",
        "apache_beam",
        "ml_metadata",
        "tensorflow_transform",
        "tensorflow_data_validation",
        "tensorflow_model_analysis",
        "pipeline",
    }


def test_test_images_that_fit_in_no_request_are_a_reason(photos: list[bytes], tmp_path: Path) -> None:
    examples = write_examples(tmp_path, "test", [example(photos[0], "red")])
    journal = tmp_path / "journal"

    serving_probe.main("model", str(examples), str(journal), '{"server": {"max_message_mb": 1}}')

    passed, detail = found(journal)["test images"]
    assert not passed
    assert detail.endswith("whose images fit in one request: serving.server.max_message_mb is 1")


@pytest.mark.parametrize(
    ("fault", "check", "words"),
    [
        ("nan", "single requests", "not finite"),
        ("not_normalized", "single requests", "sum to 2.0"),
        ("wrong_best_class", "single requests", "not those of its most probable class"),
        ("batch_dependent", "full batch", "alone and in a batch of 64: probabilities differ by"),
        ("swallows_anything", "bad images in serving_images", "text: it was classified as if it were an image"),
        ("bad_images_spoil_the_batch", "bad images in serving_default", "text: the whole request was refused: "),
        ("no_images_signature", "signatures", "there is no signature serving_images"),
    ],
)
def test_a_broken_promise_is_named(fault: Fault, check: str, words: str, tmp_path: Path) -> None:
    checks = probe(save_model(tmp_path / "model", faults=[fault], certainty=0.5), tmp_path / "journal")

    assert words in failures(checks)[check]


def test_class_names_must_be_those_of_the_asset(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", served_classes=["green", "red", "blue"])

    assert (
        "green, red, blue; its asset classes.txt has red, green, blue"
        in failures(probe(model, tmp_path / "journal"))["class names"]
    )


def test_class_names_must_be_unique(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", served_classes=["red", "red", "blue"])

    assert failures(probe(model, tmp_path / "journal"))["class names"] == "names are repeated: red"


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def _flip_bit(path: Path, byte: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)


def _flip_first_bit(path: Path) -> None:
    _flip_bit(path, 0)


def _flip_middle_bit(path: Path) -> None:
    _flip_bit(path, path.stat().st_size // 2)


def _flip_last_bit(path: Path) -> None:
    _flip_bit(path, -1)


@pytest.fixture(scope="module")
def sound_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("sound") / "model")


@pytest.mark.parametrize("damage", [_truncate, _flip_first_bit, _flip_middle_bit, _flip_last_bit, Path.unlink])
@pytest.mark.parametrize(
    "file",
    [
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
        "saved_model.pb",
        "assets/classes.txt",
        "assets.extra/SHA256SUMS",
    ],
)
def test_damaged_files_are_found(file: str, damage: Callable[[Path], None], sound_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(sound_model, tmp_path / "model")
    damage(model / file)

    with pytest.raises(serving_probe.NotJudgedError, match="have changed since") as error:
        probe(model, tmp_path / "journal")
    assert Path(file).name in str(error.value) or damage is not Path.unlink


def test_a_file_slipped_in_among_the_variables_is_found(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    (model / "variables/variables.data-00001-of-00002").write_bytes(b"more")
    (model / "model_card.md").write_text("no part of the model")

    with pytest.raises(serving_probe.NotJudgedError, match=r"data-00001-of-00002 is not in assets\.extra/SHA256SUMS"):
        probe(model, tmp_path / "journal")


class Hanging:
    """A served model that answers each request too late, the first `late` times."""

    def __init__(self, late: int) -> None:
        self.late = late

    def __call__(self) -> str:
        self.late -= 1
        if self.late >= 0:
            raise tf.errors.DeadlineExceededError(None, None, "too late")
        return "in time"


def test_a_request_answered_too_late_once_is_sent_again_and_twice_is_a_finding(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as file:
        journal = serving_probe.Journal(file)
        assert journal.check("once", Hanging(1))
        with contextlib.suppress(Exception):  # which ends the checks
            journal.check("twice", Hanging(2))
    assert found(tmp_path / "journal") == {
        "once": (True, "in time"),
        "twice": (False, "DeadlineExceededError: too late"),
    }


def test_examples_that_cannot_be_read_are_no_finding(tmp_path: Path) -> None:
    examples = write_examples(tmp_path, "test", [example(IMAGES[0], "red")])
    (file,) = examples.glob("*")
    _flip_middle_bit(file)

    serving_probe.main("model", str(examples), str(tmp_path / "journal"), "{}")

    said = json.loads((tmp_path / "journal").read_text().splitlines()[-1])["not_judged"]
    assert said.startswith(f"the examples in {examples} cannot be read: ")


def test_a_variable_that_is_not_finite_is_found(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", certainty=float("inf"))

    assert failures(probe(model, tmp_path / "journal")) == {"files are sound": "the variable weights is not finite"}


def test_a_graph_that_tensorflow_cannot_read_does_not_load(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    (model / "saved_model.pb").write_bytes(b"\xff" * 100)
    checksums.write_checksums(str(model))

    assert failures(probe(model, tmp_path / "journal"))["load"]


def test_a_split_without_examples_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "Split-test").mkdir()
    journal = tmp_path / "journal"

    serving_probe.main(str(save_model(tmp_path / "model")), str(tmp_path / "Split-test"), str(journal), "{}")

    ((check, (passed, detail)),) = found(journal).items()
    assert check == "test images"
    assert not passed
    assert detail.startswith("there are no examples in ")


def test_the_compiled_node_has_the_settings_as_one_parameter(artifacts: dict) -> None:
    node = ServingCheck(
        model=as_channel([artifacts["model"]]),
        examples=as_channel([artifacts["examples"]]),
        settings=to_json(SETTINGS),
        code="abc",
    )

    compiled = Compiler().compile(Pipeline("p", "/tmp/p", components=[node]))

    assert set(compiled.nodes[0].pipeline_node.parameters.parameters) == {"settings", "code"}
